// What a page does: calls reservd by gRPC-Web with Connect's client. drive.js calls `callReservd` in a browser.
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { EventService } from 'reservd/v1/event_service_pb.js';
import { FeedService } from 'reservd/v1/feed_service_pb.js';
import { ReservationService } from 'reservd/v1/reservation_service_pb.js';

/** The reason in the ErrorInfo of an error, which is its first field. */
function reason(error) {
  const info = ConnectError.from(error).details.find(({ type }) => type === 'google.rpc.ErrorInfo');
  const reader = new BinaryReader(info.value);
  reader.tag();
  return reader.string();
}

globalThis.callReservd = async (baseUrl, eventId) => {
  const transport = createGrpcWebTransport({ baseUrl });
  const [events, reservations, feed] =
    [EventService, ReservationService, FeedService].map((service) => createClient(service, transport));
  const reserve = (userId) => reservations.reserve({ eventId, userId, quantity: 1 }, { timeoutMs: 20_000 });

  await events.createEvent({ event: { eventId, capacity: 2 } });
  const held = await reserve('ann');
  const refused = await reserve('ann').then(() => 'not refused', reason);

  // Every change from the first on, and those that are made while it watches.
  const versions = [];
  for await (const message of feed.watchChanges({ events: [{ eventId, afterVersion: 0n }] })) {
    versions.push(...message.changes.map(({ version }) => Number(version)));
    if (versions.length === 2) await reserve('bob');
    if (versions.length >= 3) break;
  }
  return { reservationId: held.reservation.reservationId, refused, versions };
};
