//! The table of what each RPC costs, and what bounds those that cost as much. `server.max_in_flight` and the rates of
//! `[limits]` bound all of them besides.

use std::collections::HashSet;

/// What an RPC costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// No work of the database: what the server knows, or one look into Redis.
    Light,
    /// A read of some rows by their keys. Reads share a part of the database connections, so that they leave the others
    /// to mutations.
    Row,
    /// A read with a long response, such as a page of a list: `server.max_large_responses` at once, in turns, on the
    /// connections of reads.
    Large,
    /// A read of as much as an event has, or all of them: `server.max_costly_calls` at once, in turns, on the
    /// connections of reads. Those that ask the same while they wait get one answer.
    Costly,
    /// A change. Mutations share a part of the database connections, so that they leave the others to reads.
    Mutation,
    /// As long as its caller likes: the number of streams is bounded, by principal, address or connection.
    Stream,
}

use Cost::{Costly, Large, Light, Mutation, Row, Stream};

/// Every RPC, by its path.
pub const TABLE: &[(&str, Cost)] = &[
    ("/reservd.v1.EventService/CreateEvent", Mutation),
    ("/reservd.v1.EventService/BatchCreateEvents", Mutation),
    ("/reservd.v1.EventService/UpdateEvent", Mutation),
    ("/reservd.v1.EventService/OpenEvent", Mutation),
    ("/reservd.v1.EventService/CloseEvent", Mutation),
    ("/reservd.v1.EventService/CancelEvent", Mutation),
    ("/reservd.v1.EventService/DeleteEvent", Mutation),
    ("/reservd.v1.EventService/GetEvent", Row),
    ("/reservd.v1.EventService/ListEvents", Large),
    ("/reservd.v1.EventService/GetAvailability", Row),
    ("/reservd.v1.EventService/BatchGetAvailability", Large),
    ("/reservd.v1.EventService/ListEventCounts", Costly),
    ("/reservd.v1.EventService/VerifyEvent", Costly),
    ("/reservd.v1.ReservationService/Reserve", Mutation),
    ("/reservd.v1.ReservationService/Confirm", Mutation),
    ("/reservd.v1.ReservationService/Cancel", Mutation),
    ("/reservd.v1.ReservationService/Extend", Mutation),
    ("/reservd.v1.ReservationService/Amend", Mutation),
    ("/reservd.v1.ReservationService/GetReservation", Row),
    ("/reservd.v1.ReservationService/ListReservations", Large),
    ("/reservd.v1.ReservationService/SearchReservations", Costly),
    ("/reservd.v1.FeedService/ListChanges", Large),
    ("/reservd.v1.FeedService/WatchChanges", Stream),
    ("/reservd.v1.WaitlistService/JoinWaitlist", Mutation),
    ("/reservd.v1.WaitlistService/LeaveWaitlist", Mutation),
    ("/reservd.v1.WaitlistService/AmendWaitlistEntry", Mutation),
    ("/reservd.v1.WaitlistService/PromoteWaitlistEntry", Mutation),
    ("/reservd.v1.WaitlistService/GetWaitlistEntry", Row),
    ("/reservd.v1.WaitlistService/ListWaitlist", Large),
    ("/reservd.v1.SessionService/CreateSession", Light),
    ("/reservd.v1.SessionService/GetCurrentSession", Light),
    ("/reservd.v1.SessionService/RevokeCurrentSession", Light),
    ("/reservd.v1.SessionService/GetSession", Light),
    ("/reservd.v1.SessionService/ListSessions", Large),
    ("/reservd.v1.SessionService/RevokeSession", Light),
    ("/reservd.v1.SessionService/RevokeUserSessions", Light),
    ("/reservd.diagnostics.v1alpha1.DiagnosticsService/RunConcurrencyTest", Stream),
    ("/reservd.diagnostics.v1alpha1.DiagnosticsService/GetContentionReport", Large),
    ("/reservd.v1.CallerService/GetCaller", Light),
    ("/grpc.health.v1.Health/Check", Light),
    ("/grpc.health.v1.Health/Watch", Stream),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Stream),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Stream),
];

/// The paths of the RPCs that cost so much.
pub fn paths_of(cost: Cost) -> HashSet<String> {
    TABLE.iter().filter(|(_, found)| *found == cost).map(|(path, _)| (*path).to_owned()).collect()
}

#[cfg(test)]
mod tests;
