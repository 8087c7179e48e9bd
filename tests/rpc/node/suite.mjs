// SPDX-License-Identifier: Apache-2.0
//
// The API as a Node client sees it: @grpc/grpc-js and the .proto, nothing else.  Node passes
// no file descriptors, so that a helper with the same uid redeems tickets for it: a line
// {"give": hex, "pages": n} on standard output, answered by {"status": s} on standard input.
// A line {"test": name, "ok": bool, "error": text} for every test, answered by any line.
//
//   node suite.mjs PROTO_DIR TENANT_SOCKET WATCH_SOCKET ADMIN_SOCKET

import assert from 'node:assert/strict';
import readline from 'node:readline';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import protobuf from 'protobufjs';

const [protoDir, tenantSocket, watchSocket, adminSocket] = process.argv.slice(2);
const PAGE = 4096;
const loaded = protoLoader.loadSync(path.join(protoDir, 'ioasid.proto'), {
  longs: String, enums: String, defaults: true, oneofs: true,
});
const api = grpc.loadPackageDefinition(loaded).ioasid.v1;
const details = protobuf.loadSync(path.join(protoDir, 'rpc_status.proto'))
  .lookup('ioasid.rpcstatus');

// ---- clients

const open = [];

function client(Service, socket) {
  const made = new Service(`unix:${socket}`, grpc.credentials.createInsecure(),
    { 'grpc.use_local_subchannel_pool': 1, 'grpc.default_authority': 'localhost' });
  open.push(made);
  const call = (method, request = {}) => new Promise((resolve, reject) => {
    made[method](request, { deadline: Date.now() + 60000 },
      (error, response) => (error ? reject(error) : resolve(response)));
  });
  return { raw: made, call, close: () => made.close() };
}

const tenant = () => client(api.Broker, tenantSocket);

// ---- refusals

const CODE_OF = {
  MALFORMED: 'INVALID_ARGUMENT', INVALID_FIELD: 'INVALID_ARGUMENT', NOT_FOUND: 'NOT_FOUND',
  ROLE_FORBIDDEN: 'PERMISSION_DENIED', POLICY_FORBIDDEN: 'PERMISSION_DENIED',
  TICKET_REFUSED: 'PERMISSION_DENIED', NO_TENANT: 'UNAUTHENTICATED',
  QUOTA: 'RESOURCE_EXHAUSTED', RATE: 'RESOURCE_EXHAUSTED',
  FORMAT_UNSUPPORTED: 'FAILED_PRECONDITION', GROUP_INCOMPLETE: 'FAILED_PRECONDITION',
  NOT_CLAIMED: 'FAILED_PRECONDITION', NOT_ATTACHED: 'FAILED_PRECONDITION',
  DEVICE_IN_USE: 'FAILED_PRECONDITION', INCOMPATIBLE: 'FAILED_PRECONDITION',
  WOULD_SPLIT: 'FAILED_PRECONDITION', MEMORY_UNSUITABLE: 'FAILED_PRECONDITION',
  WRONG_STATE: 'FAILED_PRECONDITION', OVERLAP: 'ALREADY_EXISTS', NAME_TAKEN: 'ALREADY_EXISTS',
  KEY_REUSED: 'ALREADY_EXISTS', ALREADY_ATTACHED: 'ALREADY_EXISTS',
  UNIMPLEMENTED: 'UNIMPLEMENTED',
};

function decode(error) {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  assert.ok(bytes, `no details: ${error.message}`);
  const status = details.Status.decode(bytes);
  const found = { code: status.code, message: status.message };
  for (const detail of status.details) {
    const name = detail.typeUrl.replace('type.googleapis.com/google.rpc.', '');
    found[name] = details[name].decode(detail.value);
  }
  return found;
}

// Reasons that were seen, so that the last test can tell which were not.
const seen = new Set();

async function refused(reason, promise) {
  let error;
  try {
    await promise;
  } catch (e) {
    error = e;
  }
  assert.ok(error, `expected ${reason}, got an answer`);
  assert.equal(grpc.status[error.code], CODE_OF[reason], error.message);
  const found = decode(error);
  assert.equal(found.code, error.code);
  assert.equal(found.message, error.details);
  assert.equal(found.ErrorInfo.domain, 'ioasid');
  assert.equal(found.ErrorInfo.reason, reason);
  seen.add(reason);
  return found;
}

// ---- the helper

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function give(ticket, memfd = {}) {
  say({ give: ticket.toString('hex'), pages: 16, ...memfd });
  const { value } = await answers.next();
  assert.equal(JSON.parse(value).status, 0);
}

// What the helper fills the memory with: every 8 bytes hold their offset and a 1 on top.
function pattern(size) {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 8) bytes.writeBigUInt64LE((1n << 48n) | BigInt(at), at);
  return bytes;
}

async function register(t, more = {}, memfd = {}) {
  const { ticket } = await t.call('OpenTicket', { purpose: 'TICKET_PURPOSE_MEMORY' });
  await give(ticket, memfd);
  return t.call('RegisterMemory', { ticket, read: true, write: true, ...more });
}

async function inventory(t) {
  const { devices } = await t.call('ListDevices', { withCapabilities: true });
  const alone = devices.filter((d) => d.state === 'DEVICE_STATE_FREE' &&
    devices.filter((other) => other.group === d.group).length === 1);
  const paired = devices.filter((d) => d.groupMembers.length);
  const host = devices.filter((d) => d.state === 'DEVICE_STATE_HOST');
  return { devices, alone, paired, host };
}

const KERNEL = { kind: 'IOASID_KIND_KERNEL' };
const mapEntry = (iova, memory, more = {}) =>
  ({ iova, length: PAGE, memory, read: true, write: true, ...more });

// ---- tests

const tests = {
  async 'status, health of the connection'() {
    const t = tenant();
    const status = await t.call('GetStatus');
    assert.equal(status.role, 'tenant');
    assert.equal(status.tenant, 'org/a');
    assert.equal(status.shim, 'soft');
  },

  async 'the main path: claim, register, negotiate, alloc, map, attach, DMA, translate, free'() {
    const t = tenant();
    const { alone } = await inventory(t);
    const device = alone[0].address;
    await t.call('ClaimDevice', { devices: [device] });
    const memory = await register(t);
    assert.equal(memory.length, String(16 * PAGE));
    const want = { ...KERNEL, devices: [device], label: 'node' };
    const { choice } = await t.call('Negotiate', { alloc: want });
    const space = await t.call('Alloc', want);
    assert.equal(space.choice.format, choice.format);
    const { iovas } = await t.call('Map', {
      ioasid: space.ioasid,
      entries: [mapEntry(0x100000, memory.memory, { length: 4 * PAGE }),
        { ...mapEntry(0, memory.memory, { offset: 8 * PAGE }), choose: true }],
    });
    assert.equal(iovas[0], String(0x100000));
    await t.call('Attach', { device, ioasid: space.ioasid });
    const dma = (request) => t.call('DeviceDma', { device, ...request });
    const read = await dma({ access: 'ACCESS_READ', iova: 0x100000, length: 4 * PAGE });
    assert.equal(read.fault, null);
    assert.ok(pattern(16 * PAGE).subarray(0, 4 * PAGE).equals(read.data));
    const chosen = await dma({ access: 'ACCESS_READ', iova: iovas[1], length: 64 });
    assert.ok(pattern(16 * PAGE).subarray(8 * PAGE, 8 * PAGE + 64).equals(chosen.data));
    const write = await dma({ access: 'ACCESS_WRITE', iova: 0x100ffe, data: Buffer.from('node!') });
    assert.equal(write.done, 5);
    const back = await dma({ access: 'ACCESS_READ', iova: 0x100ffe, length: 5 });
    assert.equal(back.data.toString(), 'node!');
    const walk = await t.call('Translate',
      { ioasid: space.ioasid, iova: 0x101008, access: 'ACCESS_READ' });
    assert.equal(walk.memory, memory.memory);
    assert.equal(walk.offset, String(PAGE + 8));
    assert.ok(walk.levels.length >= 3);
    const inval = await t.call('Invalidate', {
      ioasid: space.ioasid, entries: [{ granularity: 'INVALIDATE_GRANULARITY_ALL' }],
    });
    assert.equal(inval.done, 1);
    const unmap = await t.call('Unmap',
      { ioasid: space.ioasid, ranges: [{ iova: 0x100000, length: 4 * PAGE }] });
    assert.deepEqual([unmap.mappings, unmap.bytes], ['1', String(4 * PAGE)]);
    const blocked = await dma({ access: 'ACCESS_READ', iova: 0x100000, length: 8 });
    assert.equal(blocked.fault.cause, 'FAULT_CAUSE_NOT_PRESENT');
    assert.equal(blocked.done, 0);
    await t.call('Detach', { device });
    assert.equal((await t.call('Free', { ioasid: space.ioasid })).pending, false);
    assert.equal((await t.call('UnregisterMemory', { memory: memory.memory })).pending, false);
    await t.call('ReleaseDevice', { devices: [device] });
  },

  async 'software nesting'() {
    const t = tenant();
    const { alone } = await inventory(t);
    const device = alone[0].address;
    await t.call('ClaimDevice', { devices: [device] });
    const memory = await register(t);
    const gpa = await t.call('Alloc', { ...KERNEL, devices: [device] });
    const child = await t.call('Alloc', { ...KERNEL, devices: [device], parent: gpa.ioasid });
    await t.call('Map', {
      ioasid: gpa.ioasid, entries: [mapEntry(0x40000, memory.memory, { offset: PAGE })],
    });
    await t.call('Map', {
      ioasid: child.ioasid,
      entries: [{ iova: 0x2000, length: PAGE, fromParent: true, parentAddress: 0x40000, read: true }],
    });
    await t.call('Attach', { device, ioasid: child.ioasid });
    const read = await t.call('DeviceDma',
      { device, access: 'ACCESS_READ', iova: 0x2000, length: PAGE });
    assert.ok(pattern(16 * PAGE).subarray(PAGE, 2 * PAGE).equals(read.data));
  },

  async 'ids beyond 2^53 stay exact'() {
    const t = tenant();
    await refused('NOT_FOUND', t.call('GetIoasid', { ioasid: '18446744073709551615' }));
    await refused('NOT_FOUND', t.call('GetIoasid', { ioasid: '9007199254740993' }));
  },

  async 'every kind of refusal is decoded'() {
    const t = tenant();
    const other = tenant();
    const admin = client(api.Admin, adminSocket);
    const { alone, paired, host } = await inventory(t);
    const [device, second] = alone.map((d) => d.address);
    await t.call('ClaimDevice', { devices: [device] });
    const memory = await register(t);
    const space = await t.call('Alloc', { ...KERNEL, devices: [device] });
    const id = space.ioasid;
    await t.call('Map', {
      ioasid: id, entries: [mapEntry(0x10000, memory.memory, { length: 2 * PAGE })],
    });

    const field = await refused('INVALID_FIELD', t.call('Free', {}));
    assert.equal(field.BadRequest.fieldViolations[0].field, 'ioasid');
    await refused('MALFORMED', t.call('Alloc', { ...KERNEL, label: 'nul\0' }));
    await refused('NOT_FOUND', other.call('GetIoasid', { ioasid: id }));
    await refused('NOT_CLAIMED', t.call('Attach', { device: second, ioasid: id }));
    await refused('NOT_ATTACHED', t.call('Detach', { device }));
    await refused('DEVICE_IN_USE', other.call('ClaimDevice', { devices: [device] }));
    await refused('DEVICE_IN_USE', t.call('ClaimDevice', { devices: [host[0].address] }));
    const group = await refused('GROUP_INCOMPLETE',
      t.call('ClaimDevice', { devices: [paired[0].address] }));
    assert.deepEqual(group.PreconditionFailure.violations.map((v) => v.subject),
      paired[0].groupMembers);
    await refused('OVERLAP', t.call('Map', {
      ioasid: id, entries: [mapEntry(0x11000, memory.memory)],
    }));
    await refused('WOULD_SPLIT', t.call('Unmap',
      { ioasid: id, ranges: [{ iova: 0x10000, length: PAGE }] }));
    await t.call('Attach', { device, ioasid: id });
    await refused('ALREADY_ATTACHED', t.call('Attach', { device, ioasid: id }));
    await refused('TICKET_REFUSED',
      t.call('RegisterMemory', { ticket: Buffer.alloc(16, 7), read: true }));
    await refused('MEMORY_UNSUITABLE', register(t, {}, { seals: 0 }));
    const formats = new Set(alone[0].capabilities.formats.map((f) => f.format));
    const lacking = ['PAGE_TABLE_FORMAT_SV39', 'PAGE_TABLE_FORMAT_AMDV1_3L']
      .filter((f) => !formats.has(f));
    const unsupported = await refused('FORMAT_UNSUPPORTED', t.call('Alloc',
      { ...KERNEL, devices: [device], candidates: lacking.map((format) => ({ format })) }));
    assert.ok(unsupported.PreconditionFailure.violations.length >= lacking.length);

    // Two formats that do not suit a device of the other IOMMU.
    const elsewhere = alone.find((d) => alone[0].capabilities.formats.some((f) =>
      !d.capabilities.formats.some((g) => g.format === f.format)));
    const only = alone[0].capabilities.formats.find((f) =>
      !elsewhere.capabilities.formats.some((g) => g.format === f.format));
    const special = await t.call('Alloc',
      { ...KERNEL, devices: [device], candidates: [{ format: only.format }] });
    await t.call('ClaimDevice', { devices: [elsewhere.address] });
    await refused('UNIMPLEMENTED',
      t.call('Alloc', { kind: 'IOASID_KIND_KVM', devices: [elsewhere.address] }));
    await refused('INCOMPATIBLE',
      t.call('Attach', { device: elsewhere.address, ioasid: special.ioasid }));

    await t.call('OpenLease', { name: 'node' });
    await refused('NAME_TAKEN', t.call('OpenLease', { name: 'node' }));
    await t.call('CloseLease', { scope: { lease: 'node' } });
    const key = { scope: { key: 'once' } };
    const first = await t.call('Alloc', { ...KERNEL, ...key });
    assert.equal((await t.call('Alloc', { ...KERNEL, ...key })).ioasid, first.ioasid);
    await refused('KEY_REUSED', t.call('Alloc', { ...KERNEL, ...key, label: 'twice' }));

    const limit = async (resource, amount) =>
      admin.call('SetLimits', { tenant: 'org/a', limits: [{ resource, amount }] });
    const unlimited = '18446744073709551615';
    await limit('ioasids', 3);
    const quota = await refused('QUOTA', t.call('Alloc', KERNEL));
    assert.equal(quota.QuotaFailure.violations[0].subject, 'org/a');
    assert.match(quota.QuotaFailure.violations[0].description, /ioasids.*3/);
    await limit('ioasids', unlimited);
    await admin.call('DrainTenant', { tenant: 'org/a', drain: true });
    await refused('WRONG_STATE', t.call('Alloc', KERNEL));
    await admin.call('DrainTenant', { tenant: 'org/a', drain: false });
    await refused('ROLE_FORBIDDEN', client(api.Admin, tenantSocket).call('SetLimits', {}));
    await refused('NO_TENANT', client(api.Broker, watchSocket).call('GetStatus'));
    await limit('calls_per_second', 1);
    let rate;
    for (let i = 0; i < 20 && !rate; i += 1) {
      try {
        await t.call('GetStatus');
      } catch (e) {
        rate = e;
      }
    }
    const again = await refused('RATE', Promise.reject(rate));
    assert.ok(Number(again.RetryInfo.retryDelay.seconds) +
      again.RetryInfo.retryDelay.nanos / 1e9 > 0);
    await limit('calls_per_second', unlimited);

    const expected = Object.keys(CODE_OF).filter((r) => r !== 'POLICY_FORBIDDEN');
    assert.deepEqual(expected.filter((r) => !seen.has(r)), []);
  },

  async 'a watch stream tells what happens, in order'() {
    const t = tenant();
    const stream = t.raw.WatchEvents({ types: [] });
    const events = [];
    const done = new Promise((resolve, reject) => {
      stream.on('data', (event) => {
        events.push(event);
        if (event.type === 'EVENT_TYPE_IOASID_FREED') resolve();
      });
      stream.on('error', (e) => { if (e.code !== grpc.status.CANCELLED) reject(e); });
    });
    await new Promise((resolve) => { setTimeout(resolve, 200); });
    const { ioasid } = await t.call('Alloc', { ...KERNEL, label: 'watched' });
    await t.call('Free', { ioasid });
    await done;
    const types = events.map((e) => e.type);
    assert.ok(types.indexOf('EVENT_TYPE_IOASID_ALLOCATED') >= 0);
    assert.ok(types.indexOf('EVENT_TYPE_IOASID_ALLOCATED') <
      types.indexOf('EVENT_TYPE_IOASID_FREED'));
    events.forEach((e, i) => {
      assert.equal(e.lost, '0');
      if (i) assert.ok(BigInt(e.sequence) > BigInt(events[i - 1].sequence));
    });
    stream.cancel();
  },

  async 'cancellation and deadlines leave nothing behind'() {
    const t = tenant();
    const cancelled = await new Promise((resolve) => {
      const stream = t.raw.WatchEvents({});
      stream.on('data', () => {});
      stream.on('error', resolve);
      setTimeout(() => stream.cancel(), 100);
    });
    assert.equal(cancelled.code, grpc.status.CANCELLED);
    const late = await new Promise((resolve) => {
      const stream = t.raw.WatchEvents({}, { deadline: Date.now() + 200 });
      stream.on('data', () => {});
      stream.on('error', resolve);
    });
    assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);
    await Promise.all(Array.from({ length: 30 }, () => new Promise((resolve) => {
      const call = t.raw.Alloc(KERNEL, () => resolve());
      call.cancel();
    })));
    // Some were done before they were cancelled, and are there to be freed.
    await t.call('GetStatus');
    const { ioasids } = await t.call('ListIoasids', { pageSize: 1024 });
    for (const { ioasid } of ioasids) await t.call('Free', { ioasid });
    await t.call('CloseLease');
    const { resources } = await t.call('GetQuota');
    assert.equal(resources.find((r) => r.resource === 'ioasids').used, '0');
  },

  async 'many calls at once on one connection'() {
    const t = tenant();
    const spaces = await Promise.all(Array.from({ length: 300 }, () => t.call('Alloc', KERNEL)));
    assert.equal(new Set(spaces.map((s) => s.ioasid)).size, 300);
    await Promise.all(spaces.map(({ ioasid }) => t.call('Free', { ioasid })));
  },
};

for (const [name, test] of Object.entries(tests)) {
  let error = '';
  try {
    await test();
  } catch (e) {
    error = e.stack || String(e);
  }
  for (const made of open.splice(0)) made.close();
  say({ test: name, ok: !error, error });
  // The helper looks whether the test left anything behind.
  await answers.next();
}
process.exit(0);
