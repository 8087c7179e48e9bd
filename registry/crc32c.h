/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_CRC32C_H
#define IOASID_REGISTRY_CRC32C_H

/* CRC-32C (Castagnoli).  crc: 0, or the result for the bytes before these. */

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);
/* What crc32c() does on a processor without the instruction (for tests). */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t size);

#endif
