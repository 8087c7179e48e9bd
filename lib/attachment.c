/* SPDX-License-Identifier: Apache-2.0 */
/* Which device, with or without a PASID, uses which IOASID. */
#include "convert.h"
#include "list.h"

LIST_LAYOUT(Ioasid__V1__ListAttachmentsResponse, attachments, struct ioasid_attachments);

/* The message for a PASID, absent for none. */
static Ioasid__V1__Pasid *pasid_message(uint32_t pasid, Ioasid__V1__Pasid *message)
{
	ioasid__v1__pasid__init(message);
	message->value = pasid;
	return pasid == IOASID_NO_PASID ? NULL : message;
}

int ioasid_attach(struct ioasid_client *client, const struct ioasid_scope *scope,
		  const char *device, uint32_t pasid, uint64_t ioasid,
		  struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "Attach", attach_response, true, IN_LEASE);
	Ioasid__V1__AttachRequest request = IOASID__V1__ATTACH_REQUEST__INIT;
	Ioasid__V1__AttachResponse *response;
	Ioasid__V1__Pasid message;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.device = text_or_empty(device);
	request.pasid = pasid_message(pasid, &message);
	request.ioasid = ioasid;
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_detach(struct ioasid_client *client, const struct ioasid_scope *scope,
		  const char *device, uint32_t pasid, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "Detach", detach_response, true, IN_LEASE);
	Ioasid__V1__DetachRequest request = IOASID__V1__DETACH_REQUEST__INIT;
	Ioasid__V1__DetachResponse *response;
	Ioasid__V1__Pasid message;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.device = text_or_empty(device);
	request.pasid = pasid_message(pasid, &message);
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_replace(struct ioasid_client *client, const struct ioasid_scope *scope,
		   const char *device, uint32_t pasid, uint64_t ioasid,
		   struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "Replace", replace_response, true, IN_LEASE);
	Ioasid__V1__ReplaceRequest request = IOASID__V1__REPLACE_REQUEST__INIT;
	Ioasid__V1__ReplaceResponse *response;
	Ioasid__V1__Pasid message;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.device = text_or_empty(device);
	request.pasid = pasid_message(pasid, &message);
	request.ioasid = ioasid;
	return call_unary(&call, &method, &request.base, &response);
}

int ioasid_attachment_list(struct ioasid_client *client, const struct ioasid_scope *scope,
			   struct ioasid_attachments **ret_attachments,
			   struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListAttachments", list_attachments_response, false, IN_LEASE);
	Ioasid__V1__ListAttachmentsRequest request = IOASID__V1__LIST_ATTACHMENTS_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_attachments), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_attachment), convert_attachment);
	return r < 0 ? r : call_publish(&call, ret_attachments);
}

void ioasid_attachments_free(struct ioasid_attachments *attachments)
{
	result_free_root(attachments);
}
