# SPDX-License-Identifier: Apache-2.0
"""Real page tables of stock kernels, and what QEMU says that they mean (docs/testing.md)."""
