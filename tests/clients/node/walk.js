// Goes through the README's walk, and beyond it, as a Node backend would: with proto/ as it is, and
// @grpc/grpc-js, which we did not write.
//
//     walk.js ADDRESS PROTO                    the walk
//     walk.js ADDRESS PROTO deadline EVENT     a Reserve whose time is over while EVENT is locked
//
// Prints each step; ends with exit code 1 at the first wrong answer.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { createRequire } = require('node:module');

// The packages are installed in .tools/node of the checkout, not beside this file.
const tools = createRequire(path.join(__dirname, '../../../.tools/node/package.json'));
const grpc = tools('@grpc/grpc-js');
const loader = tools('@grpc/proto-loader');
const protobuf = createRequire(tools.resolve('@grpc/proto-loader'))('protobufjs');

const [address, protoRoot, mode, lockedEvent] = process.argv.slice(2);

const definition = loader.loadSync(
  ['caller', 'event', 'feed', 'reservation'].map((name) => `reservd/v1/${name}_service.proto`),
  { includeDirs: [protoRoot], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const { v1 } = grpc.loadPackageDefinition(definition).reservd;
const credentials = grpc.credentials.createInsecure();
const events = new v1.EventService(address, credentials);
const reservations = new v1.ReservationService(address, credentials);
const feed = new v1.FeedService(address, credentials);
const callers = new v1.CallerService(address, credentials);

// google/rpc/status.proto and error_details.proto, as far as they are read here.
const rpc = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { Duration retry_delay = 1; }
  message FieldViolation { string field = 1; string description = 2; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
  message PreconditionViolation { string type = 1; string subject = 2; string description = 3; }
  message PreconditionFailure { repeated PreconditionViolation violations = 1; }
  message ResourceInfo { string resource_type = 1; string resource_name = 2; string owner = 3; string description = 4; }
`, { keepCase: true }).root;

function step(what) {
  console.log(what);
}

function call(client, method, request, seconds = 30) {
  const options = seconds === null ? {} : { deadline: Date.now() + seconds * 1000 };
  return new Promise((resolve, reject) => {
    client[method](request, new grpc.Metadata(), options, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// The rich details of an error, by their type.
function detailsOf(error) {
  const [encoded] = error.metadata.get('grpc-status-details-bin');
  assert(encoded, `no details in ${error.message}`);
  const status = rpc.lookupType('google.rpc.Status').decode(encoded);
  assert.equal(status.code, error.code, 'the code in the details');
  return Object.fromEntries(status.details.map(({ type_url, value }) => {
    const type = type_url.split('/').pop();
    return [type.split('.').pop(), rpc.lookupType(type).decode(value)];
  }));
}

// Makes a call that must fail with this code for this reason, and returns the details.
async function refused(work, code, reason) {
  let answer;
  try {
    answer = await work();
  } catch (error) {
    assert.equal(grpc.status[error.code], code, error.message);
    const details = detailsOf(error);
    assert.equal(details.ErrorInfo.reason, reason);
    assert.equal(details.ErrorInfo.domain, 'reservd');
    return details;
  }
  return assert.fail(`${reason} was expected, and the answer is ${JSON.stringify(answer)}`);
}

const reserve = (event_id, user_id, quantity = 1, rest = {}) =>
  call(reservations, 'Reserve', { event_id, user_id, quantity, ...rest });
const createEvent = async (event) => (await call(events, 'CreateEvent', { event })).event;

async function theWalk() {
  step('create an event of three places');
  const event = await createEvent({ event_id: 'concert', capacity: 3 });
  assert.deepEqual([event.counts.available, event.version, event.state], [3, '1', 'EVENT_STATE_OPEN']);

  step('Ann holds two, and the same request_id tells the same again');
  const first = await reserve('concert', 'ann', 2, { request_id: 'order-7' });
  assert.deepEqual([first.reservation.state, first.execution.replayed], ['RESERVATION_STATE_HELD', false]);
  const { expire_time, create_time } = first.reservation;
  assert.equal(expire_time.seconds - create_time.seconds, 600);
  const passed = first.execution.server_time.seconds - create_time.seconds;
  assert(passed >= 0 && passed <= 30, `the server's time is ${passed} seconds after the hold's beginning`);
  const again = await reserve('concert', 'ann', 2, { request_id: 'order-7' });
  assert.deepEqual([again.reservation, again.execution.replayed], [first.reservation, true]);
  const reused = await refused(
    () => reserve('concert', 'ann', 1, { request_id: 'order-7' }), 'FAILED_PRECONDITION', 'REQUEST_ID_REUSED');
  assert.equal(reused.ErrorInfo.metadata.event_id, 'concert');

  step('one user, one live reservation, which the error names');
  const twice = await refused(() => reserve('concert', 'ann'), 'ALREADY_EXISTS', 'ALREADY_RESERVED');
  assert.equal(twice.ResourceInfo.resource_name, first.reservation.reservation_id);
  assert.equal(twice.ResourceInfo.resource_type, 'reservd.v1.Reservation');
  assert.equal(twice.ErrorInfo.metadata.reservation_id, first.reservation.reservation_id);

  step('three places, two held: sold out for two more');
  const soldOut = await refused(() => reserve('concert', 'bob', 2), 'FAILED_PRECONDITION', 'SOLD_OUT');
  const { asked, available } = soldOut.ErrorInfo.metadata;
  assert.deepEqual([asked, available], ['2', '1']);
  assert.equal(soldOut.PreconditionFailure.violations[0].subject, 'concert');

  step('Ann confirms one, Bob reserves two, and cancels');
  const ofAnn = { event_id: 'concert', reservation: { user_id: 'ann' } };
  const confirmed = (await call(reservations, 'Confirm', { ...ofAnn, quantity: 1 })).reservation;
  assert.deepEqual([confirmed.state, confirmed.quantity], ['RESERVATION_STATE_CONFIRMED', 1]);
  const bobs = (await reserve('concert', 'bob', 2, { hold_ttl: { seconds: 60 } })).reservation;
  const ofBob = { event_id: 'concert', reservation: { user_id: 'bob' } };
  const cancelled = (await call(reservations, 'Cancel', { ...ofBob, reason: 'ill' })).reservation;
  assert.deepEqual([cancelled.state, cancelled.cancel_reason], ['RESERVATION_STATE_CANCELLED', 'ill']);

  step('some units are cancelled only by a call that is safe to repeat, and 0 is no number of units');
  const badFields = async (work) =>
    (await refused(work, 'INVALID_ARGUMENT', 'FIELD_INVALID')).BadRequest.field_violations.map(({ field }) => field);
  assert.deepEqual(await badFields(() => call(reservations, 'Cancel', { ...ofAnn, quantity: 1 })), ['request_id']);
  assert.deepEqual(await badFields(() => call(reservations, 'Confirm', { ...ofAnn, quantity: 0 })), ['quantity']);

  step('Bob reserves again, and the old record stays');
  const second = (await reserve('concert', 'bob')).reservation;
  const listed = await call(reservations, 'ListReservations', { event_id: 'concert', user_id: 'bob' });
  assert.deepEqual(
    listed.reservations.map((it) => it.reservation_id), [bobs.reservation_id, second.reservation_id]);

  step('something that only one can have');
  await createEvent({ event_id: 'room', capacity: 1 });
  const taken = await reserve('room', 'ann', 1, { confirm: true });
  assert.equal(taken.reservation.state, 'RESERVATION_STATE_CONFIRMED');
  await refused(() => reserve('room', 'bob', 1, { confirm: true }), 'FAILED_PRECONDITION', 'SOLD_OUT');

  for (const event_id of ['concert', 'room']) {
    const audit = await call(events, 'VerifyEvent', { event_id });
    assert.deepEqual([audit.ok, audit.problems], [true, []]);
    for (const { name, recorded, counted } of audit.checks) assert.equal(recorded, counted, name);
  }
}

async function everyBadField() {
  step('every bad field is named, not only the first');
  const bad = await refused(
    () => reserve('a b', '', 0, { hold_ttl: { seconds: -1 }, request_id: 'x'.repeat(129) }),
    'INVALID_ARGUMENT', 'FIELD_INVALID');
  const fields = bad.BadRequest.field_violations.map(({ field }) => field).sort();
  assert.deepEqual(fields, ['event_id', 'hold_ttl', 'quantity', 'request_id', 'user_id']);
  assert(bad.BadRequest.field_violations.every(({ description }) => description), 'each says why');
  const missing = await refused(() => reserve('nowhere', 'ann'), 'NOT_FOUND', 'EVENT_NOT_FOUND');
  assert.equal(missing.ResourceInfo.resource_name, 'nowhere');
}

async function masksAndPages() {
  step('an update changes what its mask names, if the etag is right: reservations do not move it');
  const event = await createEvent({
    event_id: 'tour', capacity: 5, display_name: 'Tour', venue_id: 'hall', venue_display_name: 'The Hall',
  });
  await reserve('tour', 'ann');
  const update = (paths, rest = {}) => call(events, 'UpdateEvent', {
    event: { event_id: 'tour', capacity: 9, display_name: 'not asked for' },
    update_mask: { paths },
    etag: event.etag,
    ...rest,
  });
  const checked = await update(['capacity', 'venue_id'], { validate_only: true });
  assert.deepEqual([checked.event.capacity, checked.execution.event_version], [9, '3']);
  const updated = (await update(['capacity', 'venue_id'])).event;
  assert.deepEqual([updated.capacity, updated.venue_id, updated.display_name], [9, '', 'Tour']);
  assert.deepEqual([updated.version, updated.definition_version], ['3', '3']);
  const late = await refused(() => update(['capacity', 'venue_id']), 'ABORTED', 'ETAG_MISMATCH');
  assert.equal(late.ErrorInfo.metadata.current_etag, updated.etag);
  await refused(() => update(['capacity', 'counts']), 'INVALID_ARGUMENT', 'FIELD_INVALID');

  step('pages follow each other, and a token belongs to its filter');
  const wanted = [0, 1, 2, 3, 4].map((number) => `page-${number}`);
  for (const event_id of wanted) await createEvent({ event_id, capacity: 1, series_id: 'pages' });
  const seen = [];
  let [token, last] = ['', ''];
  do {
    const page = await call(events, 'ListEvents', { series_id: 'pages', page_size: 2, page_token: token });
    seen.push(...page.events.map((it) => it.event_id));
    [token, last] = [page.next_page_token, token];
  } while (token);
  assert.deepEqual(seen, wanted);
  await refused(
    () => call(events, 'ListEvents', { series_id: 'other', page_token: last }),
    'INVALID_ARGUMENT', 'PAGE_TOKEN_INVALID');
}

const watchChanges = (...watched) => feed.WatchChanges({ events: watched });

// Reads so many messages of a stream, and cancels it.
async function take(stream, count) {
  // What a cancelled stream says afterwards is of no interest.
  stream.on('error', () => {});
  const messages = [];
  for await (const message of stream) {
    messages.push(message);
    if (messages.length === count) break;
  }
  stream.cancel();
  return messages;
}

async function watch() {
  step('a watch begins with the event as it is, tells every change, and ends when the event does');
  await createEvent({ event_id: 'show', capacity: 3 });
  const stream = watchChanges({ event_id: 'show' });
  // What a cancelled stream says afterwards is of no interest.
  stream.on('error', () => {});
  const messages = stream[Symbol.asyncIterator]();
  const next = async () => (await messages.next()).value;
  const first = await next();
  assert.deepEqual([first.version, first.snapshot.counts.available, first.counts.available], ['1', 3, 3]);
  assert.deepEqual([first.event_id, first.state], ['show', 'EVENT_STATE_OPEN']);
  await reserve('show', 'ann', 2);
  const held = await next();
  assert.deepEqual(held.changes.map(({ kind }) => kind), ['CHANGE_KIND_RESERVATION_HELD']);
  assert.deepEqual([held.changes[0].reservation.user_id, held.version, held.counts.available], ['ann', '2', 1]);
  stream.cancel();

  step('it goes on where it was left');
  await reserve('show', 'bob');
  await call(events, 'CancelEvent', { event_id: 'show' });
  const versions = [];
  for await (const message of watchChanges({ event_id: 'show', after_version: held.version })) {
    versions.push(...message.changes.map(({ version }) => version));
  }
  assert.deepEqual(versions, ['3', '4', '5', '6'], "Bob's hold, two ends and the event's own; then it ends well");

  step('one stream has several events, each from where its watcher is');
  const both = await take(watchChanges({ event_id: 'show', after_version: 5 }, { event_id: 'tour' }), 2);
  const of = (event_id) => both.find((message) => message.event_id === event_id);
  assert.deepEqual(of('show').changes.map(({ version }) => version), ['6'], 'the end of the show');
  assert.equal(of('tour').snapshot.capacity, 9, 'the tour as it is');

  step("a watch that can't begin, and one whose time is over, say why");
  const readAll = async (watched, options) => {
    const stream = feed.WatchChanges({ events: [watched] }, new grpc.Metadata(), options ?? {});
    for await (const message of stream) assert(message.version);
  };
  const ahead = await refused(
    () => readAll({ event_id: 'show', after_version: 99 }), 'OUT_OF_RANGE', 'WATCH_AHEAD');
  const { event_id, event_version } = ahead.ErrorInfo.metadata;
  assert.deepEqual([event_id, event_version], ['show', '6']);
  await assert.rejects(
    readAll({ event_id: 'tour' }, { deadline: Date.now() + 300 }), { code: grpc.status.DEADLINE_EXCEEDED });

  step('the history tells it all again');
  const { changes } = await call(feed, 'ListChanges', { event_id: 'show' });
  assert.deepEqual(changes.map(({ version }) => version), ['1', '2', '3', '4', '5', '6']);
}

async function whoAmI() {
  step('the caller is told what it may do');
  const { caller } = await call(callers, 'GetCaller', {});
  assert.deepEqual([caller.principal, caller.user_id, caller.roles], ['', '', []], 'nobody in particular');
  assert(caller.methods.includes('reservd.v1.ReservationService/Reserve'), `of ${caller.methods}`);
}

async function health() {
  step('health answers');
  const text = `
    syntax = "proto3";
    package grpc.health.v1;
    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse { enum S { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; } S status = 1; }
    service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }`;
  const service = loader.fromJSON(protobuf.parse(text).root.toJSON(), { enums: String });
  const { Health } = grpc.loadPackageDefinition(service).grpc.health.v1;
  const answer = await call(new Health(address, credentials), 'Check', { service: 'reservd.v1.EventService' });
  assert.equal(answer.status, 'SERVING');
}

// The event's row is locked: the call must end in time, in the server's words or in grpc-js's own.
async function deadline(event_id) {
  step('a deadline that passes is DEADLINE_EXCEEDED');
  const request = { event_id, user_id: 'ann', quantity: 1 };
  await assert.rejects(
    call(reservations, 'Reserve', request, 0.3), { code: grpc.status.DEADLINE_EXCEEDED }, 'the row is locked');

  step('an impatient caller is told at once, and when to come again');
  const locked = await refused(
    () => call(reservations, 'Reserve', { ...request, options: { lock_wait: 'LOCK_WAIT_NOWAIT' } }),
    'ABORTED', 'LOCK_TIMEOUT');
  assert(locked.RetryInfo.retry_delay.nanos > 0, 'no time to come again');

  step('the default deadline of the server speaks in its own words');
  await refused(() => call(reservations, 'Reserve', request, null), 'DEADLINE_EXCEEDED', 'DEADLINE');
}

async function main() {
  if (mode === 'deadline') {
    await deadline(lockedEvent);
  } else {
    await theWalk();
    await everyBadField();
    await masksAndPages();
    await watch();
    await whoAmI();
    await health();
  }
  step('all is well');
}

main().then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
