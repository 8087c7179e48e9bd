/* SPDX-License-Identifier: Apache-2.0 */
/* Builds google.rpc.Status without allocating; see refusal.h. */
#include "refusal.h"

#include "rpc_status.pb-c.h"

size_t refusal_details(int code, const char *reason, const char *message,
		       uint8_t ret_details[static REFUSAL_DETAILS_MAX])
{
	Ioasid__Rpcstatus__ErrorInfo info = IOASID__RPCSTATUS__ERROR_INFO__INIT;
	Ioasid__Rpcstatus__Detail detail = IOASID__RPCSTATUS__DETAIL__INIT;
	Ioasid__Rpcstatus__Status status = IOASID__RPCSTATUS__STATUS__INIT;
	Ioasid__Rpcstatus__Detail *details[] = {&detail};
	uint8_t packed[256];

	info.reason = (char *)reason;
	info.domain = (char *)"ioasid";
	if (ioasid__rpcstatus__error_info__get_packed_size(&info) > sizeof(packed))
		return 0;
	detail.type_url = (char *)"type.googleapis.com/google.rpc.ErrorInfo";
	detail.value.data = packed;
	detail.value.len = ioasid__rpcstatus__error_info__pack(&info, packed);
	status.code = code;
	status.message = (char *)message;
	status.n_details = 1;
	status.details = details;
	if (ioasid__rpcstatus__status__get_packed_size(&status) > REFUSAL_DETAILS_MAX)
		return 0;
	return ioasid__rpcstatus__status__pack(&status, ret_details);
}
