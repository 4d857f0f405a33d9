"""Goes through the README's walk, and beyond it, as a Python backend would: with stubs that protoc
made from proto/ just now, and grpcio, which we did not write.

    walk.py ADDRESS STUBS    the walk
    walk.py ADDRESS STUBS deadline EVENT    a Reserve whose time is over while EVENT is locked

Prints each step; ends with exit code 1 at the first wrong answer."""

import sys

sys.path.insert(0, sys.argv[2])

import grpc
from google.protobuf import duration_pb2, field_mask_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from reservd.v1 import caller_service_pb2, caller_service_pb2_grpc, change_pb2, error_reason_pb2
from reservd.v1 import event_pb2, event_service_pb2, event_service_pb2_grpc, execution_pb2
from reservd.v1 import feed_service_pb2, feed_service_pb2_grpc
from reservd.v1 import reservation_pb2, reservation_service_pb2, reservation_service_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1])
events = event_service_pb2_grpc.EventServiceStub(channel)
reservations = reservation_service_pb2_grpc.ReservationServiceStub(channel)
feed = feed_service_pb2_grpc.FeedServiceStub(channel)
callers = caller_service_pb2_grpc.CallerServiceStub(channel)
TIME = 30
# What the status of a call about one event, reservation or entry may name besides what its reason lists.
SUBJECTS = {"event_id", "reservation_id", "entry_id"}


def step(what):
    print(what, flush=True)


def expect(got, wanted, what):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


def of_user(user_id):
    return reservation_pb2.ReservationSelector(user_id=user_id)


def watch_of(event_id, **rest):
    return feed_service_pb2.WatchedEvent(event_id=event_id, **rest)


def watch_changes(*watched, **options):
    return feed.WatchChanges(feed_service_pb2.WatchChangesRequest(events=watched), **options)


def reserve(event_id, user_id, quantity=1, **rest):
    request = reservation_service_pb2.ReserveRequest(event_id=event_id, user_id=user_id, quantity=quantity, **rest)
    return reservations.Reserve(request, timeout=TIME)


def details_of(error):
    """The rich details of an error by their type, unpacked as any client would."""
    found = {}
    for packed in rpc_status.from_call(error).details:
        detail = getattr(error_details_pb2, packed.type_url.rsplit(".", 1)[-1])()
        if not packed.Unpack(detail):
            sys.exit(f"{packed.type_url} can't be unpacked")
        found[type(detail).__name__] = detail
    return found


def refused(call, code, reason):
    """Makes a call that must fail with this code for this reason, and returns the details."""
    try:
        answer = call()
    except grpc.RpcError as error:
        expect(error.code(), code, f"the code of {error.details()!r}")
        details = details_of(error)
        expect(details["ErrorInfo"].reason, reason, "the reason")
        expect(details["ErrorInfo"].domain, "reservd", "the domain")
        is_as_the_api_says(code, details)
        return details
    sys.exit(f"{reason} was expected, and the answer is {answer}")


def is_as_the_api_says(code, details):
    """Whether an error has what the API lists with its reason."""
    info = details["ErrorInfo"]
    value = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name[info.reason]
    listed = value.GetOptions().Extensions[error_reason_pb2.error_reason]
    expect(code.name, listed.code, f"the code of {info.reason}")
    expect("RetryInfo" in details, listed.retriable, f"whether {info.reason} says when to come again")
    expect(set(info.metadata) - set(listed.metadata) - SUBJECTS, set(), f"the metadata of {info.reason}")


def create_event(event_id, capacity, **rest):
    event = event_pb2.Event(event_id=event_id, capacity=capacity, **rest)
    return events.CreateEvent(event_service_pb2.CreateEventRequest(event=event), timeout=TIME).event


def the_walk():
    step("create an event of three places")
    event = create_event("concert", 3)
    expect((event.counts.available, event.version, event.state), (3, 1, event_pb2.EVENT_STATE_OPEN), "the event")

    step("Ann holds two, and the same request_id tells the same again")
    first = reserve("concert", "ann", 2, request_id="order-7")
    expect((first.reservation.state, first.execution.replayed), (reservation_pb2.RESERVATION_STATE_HELD, False), "it")
    left = first.reservation.expire_time.ToSeconds() - first.reservation.create_time.ToSeconds()
    expect(left, 600, "the hold's seconds")
    if not 0 <= first.execution.server_time.ToSeconds() - first.reservation.create_time.ToSeconds() <= TIME:
        sys.exit(f"the server's time is {first.execution.server_time}")
    again = reserve("concert", "ann", 2, request_id="order-7")
    expect((again.reservation, again.execution.replayed), (first.reservation, True), "the replay")
    reused = refused(
        lambda: reserve("concert", "ann", 1, request_id="order-7"),
        grpc.StatusCode.FAILED_PRECONDITION,
        "REQUEST_ID_REUSED",
    )
    expect(reused["ErrorInfo"].metadata["event_id"], "concert", "the event")

    step("one user, one live reservation, which the error names")
    twice = refused(lambda: reserve("concert", "ann"), grpc.StatusCode.ALREADY_EXISTS, "ALREADY_RESERVED")
    expect(twice["ResourceInfo"].resource_name, first.reservation.reservation_id, "the live reservation")
    expect(twice["ResourceInfo"].resource_type, "reservd.v1.Reservation", "its type")
    expect(twice["ErrorInfo"].metadata["reservation_id"], first.reservation.reservation_id, "its id")

    step("three places, two held: sold out for two more")
    sold_out = refused(lambda: reserve("concert", "bob", 2), grpc.StatusCode.FAILED_PRECONDITION, "SOLD_OUT")
    info = sold_out["ErrorInfo"].metadata
    expect((info["asked"], info["available"]), ("2", "1"), "what was asked and what is there")
    expect(sold_out["PreconditionFailure"].violations[0].subject, "concert", "the subject")

    step("Ann confirms one, Bob reserves two, and cancels")
    confirm = reservation_service_pb2.ConfirmRequest(event_id="concert", reservation=of_user("ann"), quantity=1)
    confirmed = reservations.Confirm(confirm, timeout=TIME).reservation
    expect((confirmed.state, confirmed.quantity), (reservation_pb2.RESERVATION_STATE_CONFIRMED, 1), "confirmed")
    bobs = reserve("concert", "bob", 2, hold_ttl=duration_pb2.Duration(seconds=60)).reservation
    cancel = reservation_service_pb2.CancelRequest(event_id="concert", reservation=of_user("bob"), reason="ill")
    cancelled = reservations.Cancel(cancel, timeout=TIME).reservation
    expect((cancelled.state, cancelled.cancel_reason), (reservation_pb2.RESERVATION_STATE_CANCELLED, "ill"), "cancelled")

    step("some units are cancelled only by a call that is safe to repeat, and 0 is no number of units")
    cancel = reservation_service_pb2.CancelRequest(event_id="concert", reservation=of_user("ann"), quantity=1)
    unsafe = refused(
        lambda: reservations.Cancel(cancel, timeout=TIME), grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"
    )
    expect([bad.field for bad in unsafe["BadRequest"].field_violations], ["request_id"], "the field")
    confirm.quantity = 0
    none = refused(
        lambda: reservations.Confirm(confirm, timeout=TIME), grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"
    )
    expect([bad.field for bad in none["BadRequest"].field_violations], ["quantity"], "the field")

    step("Bob reserves again, and the old record stays")
    second = reserve("concert", "bob").reservation
    listed = reservations.ListReservations(
        reservation_service_pb2.ListReservationsRequest(event_id="concert", user_id="bob"), timeout=TIME
    ).reservations
    expect([it.reservation_id for it in listed], [bobs.reservation_id, second.reservation_id], "Bob's records")

    step("something that only one can have")
    create_event("room", 1)
    taken = reserve("room", "ann", confirm=True)
    expect(taken.reservation.state, reservation_pb2.RESERVATION_STATE_CONFIRMED, "the room")
    refused(lambda: reserve("room", "bob", confirm=True), grpc.StatusCode.FAILED_PRECONDITION, "SOLD_OUT")

    for event_id in ["concert", "room"]:
        audit = events.VerifyEvent(event_service_pb2.VerifyEventRequest(event_id=event_id), timeout=TIME)
        expect((audit.ok, list(audit.problems)), (True, []), f"the audit of {event_id}")
        for check in audit.checks:
            expect(check.recorded, check.counted, f"{check.name} of {event_id}")


def every_bad_field():
    step("every bad field is named, not only the first")
    bad = refused(
        lambda: reserve("a b", "", 0, hold_ttl=duration_pb2.Duration(seconds=-1), request_id="x" * 129),
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
    )
    fields = sorted(violation.field for violation in bad["BadRequest"].field_violations)
    expect(fields, ["event_id", "hold_ttl", "quantity", "request_id", "user_id"], "the bad fields")
    if not all(violation.description for violation in bad["BadRequest"].field_violations):
        sys.exit("a field is bad, and it is not said why")
    missing = refused(lambda: reserve("nowhere", "ann"), grpc.StatusCode.NOT_FOUND, "EVENT_NOT_FOUND")
    expect(missing["ResourceInfo"].resource_name, "nowhere", "the missing event")


def masks_and_pages():
    step("an update changes what its mask names, if the etag is right: reservations do not move it")
    event = create_event("tour", 5, display_name="Tour", venue_id="hall", venue_display_name="The Hall")
    reserve("tour", "ann")
    update = event_service_pb2.UpdateEventRequest(
        event=event_pb2.Event(event_id="tour", capacity=9, display_name="not asked for"),
        update_mask=field_mask_pb2.FieldMask(paths=["capacity", "venue_id"]),
        etag=event.etag,
        validate_only=True,
    )
    checked = events.UpdateEvent(update, timeout=TIME)
    expect((checked.event.capacity, checked.execution.event_version), (9, 3), "what it would be")
    update.validate_only = False
    updated = events.UpdateEvent(update, timeout=TIME).event
    expect((updated.capacity, updated.venue_id, updated.display_name), (9, "", "Tour"), "the event")
    expect((updated.version, updated.definition_version), (3, 3), "its versions")
    late = refused(lambda: events.UpdateEvent(update, timeout=TIME), grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    expect(late["ErrorInfo"].metadata["current_etag"], updated.etag, "the etag that it has now")
    update.update_mask.paths.append("counts")
    refused(lambda: events.UpdateEvent(update, timeout=TIME), grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")

    step("pages follow each other, and a token belongs to its filter")
    for number in range(5):
        create_event(f"page-{number}", 1, series_id="pages")
    seen, token = [], ""
    while True:
        request = event_service_pb2.ListEventsRequest(series_id="pages", page_size=2, page_token=token)
        page = events.ListEvents(request, timeout=TIME)
        seen += [event.event_id for event in page.events]
        last, token = token, page.next_page_token
        if not token:
            break
    expect(seen, [f"page-{number}" for number in range(5)], "the events of all pages")
    other = event_service_pb2.ListEventsRequest(series_id="other", page_token=last)
    refused(lambda: events.ListEvents(other, timeout=TIME), grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


def watch():
    step("a watch begins with the event as it is, tells every change, and ends when the event does")
    create_event("show", 3)
    stream = watch_changes(watch_of("show"))
    first = next(stream)
    expect((first.version, first.snapshot.counts.available, first.counts.available), (1, 3, 3), "the snapshot")
    expect((first.event_id, first.state), ("show", event_pb2.EVENT_STATE_OPEN), "the event")
    reserve("show", "ann", 2)
    held = next(stream)
    expect([it.kind for it in held.changes], [change_pb2.CHANGE_KIND_RESERVATION_HELD], "what happened")
    expect((held.changes[0].reservation.user_id, held.version, held.counts.available), ("ann", 2, 1), "to whom")
    stream.cancel()

    step("it goes on where it was left")
    reserve("show", "bob")
    events.CancelEvent(event_service_pb2.CancelEventRequest(event_id="show"), timeout=TIME)
    rest = list(watch_changes(watch_of("show", after_version=held.version)))
    versions = [change.version for message in rest for change in message.changes]
    expect(versions, [3, 4, 5, 6], "Bob's hold, two ends and the event's own; then the stream ends well")

    step("one stream has several events, each from where its watcher is")
    stream = watch_changes(watch_of("show", after_version=5), watch_of("tour"))
    both = {message.event_id: message for message in (next(stream), next(stream))}
    expect([change.version for change in both["show"].changes], [6], "the end of the show")
    expect(both["tour"].snapshot.capacity, 9, "the tour as it is")
    stream.cancel()

    step("a watch that can't begin, and one whose time is over, say why")
    ahead = refused(
        lambda: list(watch_changes(watch_of("show", after_version=99))), grpc.StatusCode.OUT_OF_RANGE, "WATCH_AHEAD"
    )
    info = ahead["ErrorInfo"].metadata
    expect((info["event_id"], info["event_version"]), ("show", "6"), "which event, and how far it is")
    try:
        list(watch_changes(watch_of("tour"), timeout=0.3))
        sys.exit("nothing ends this watch but its deadline")
    except grpc.RpcError as error:
        expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "the code")

    step("the history tells it all again")
    listed = feed.ListChanges(feed_service_pb2.ListChangesRequest(event_id="show"), timeout=TIME)
    expect([change.version for change in listed.changes], [1, 2, 3, 4, 5, 6], "the versions")


def who_am_i():
    step("the caller is told what it may do")
    caller = callers.GetCaller(caller_service_pb2.GetCallerRequest(), timeout=TIME).caller
    expect((caller.principal, caller.user_id, list(caller.roles)), ("", "", []), "nobody in particular")
    if "reservd.v1.ReservationService/Reserve" not in caller.methods:
        sys.exit(f"Reserve is not among {caller.methods}")


def health_and_reflection():
    step("health and reflection answer")
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", "reservd.v1.EventService", "reservd.v1.ReservationService", "reservd.v1.FeedService"]:
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIME)
        expect(answer.status, health_pb2.HealthCheckResponse.SERVING, f"the health of {service!r}")
    reflection = ProtoReflectionDescriptorDatabase(channel)
    services = set(reflection.get_services())
    wanted = {f"reservd.v1.{name}Service" for name in ["Event", "Reservation", "Waitlist", "Feed", "Session", "Caller"]}
    wanted.add("reservd.diagnostics.v1alpha1.DiagnosticsService")
    expect(wanted - services, set(), "the services that reflection does not list")
    found = reflection.FindFileContainingSymbol("reservd.v1.ReservationService")
    methods = {method.name for service in found.service for method in service.method}
    if not {"Reserve", "Confirm", "Cancel", "Extend", "Amend"} <= methods:
        sys.exit(f"methods are missing: {methods}")


def deadline(event_id):
    """The event's row is locked: the call must end in time, in the server's words or in grpcio's own."""
    step("a deadline that passes is DEADLINE_EXCEEDED")
    request = reservation_service_pb2.ReserveRequest(event_id=event_id, user_id="ann", quantity=1)
    try:
        reservations.Reserve(request, timeout=0.3)
        sys.exit("the row is locked, and yet there is an answer")
    except grpc.RpcError as error:
        expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "the code")

    step("an impatient caller is told at once, and when to come again")
    request.options.lock_wait = execution_pb2.LOCK_WAIT_NOWAIT
    locked = refused(
        lambda: reservations.Reserve(request, timeout=TIME), grpc.StatusCode.ABORTED, "LOCK_TIMEOUT"
    )
    if locked["RetryInfo"].retry_delay.ToMilliseconds() <= 0:
        sys.exit(f"no time to come again: {locked}")

    step("the default deadline of the server speaks in its own words")
    request.options.lock_wait = execution_pb2.LOCK_WAIT_WAIT
    refused(lambda: reservations.Reserve(request), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")


if sys.argv[3:4] == ["deadline"]:
    deadline(sys.argv[4])
else:
    the_walk()
    every_bad_field()
    masks_and_pages()
    watch()
    who_am_i()
    health_and_reflection()
step("all is well")
