//! Every RPC as a value, for tests that apply to all of them.

use reservd::rpc::pb;
use tonic::Status;

use super::TestServer;

/// Declares a variant for each RPC: its request, its client and its method.
macro_rules! calls {
    ($($name:ident($($request:ident)::+) = $client:ident.$method:ident;)+) => {
        /// A request of any RPC with a single response.
        #[derive(Clone, Debug)]
        pub enum Call {
            $($name(pb::$($request)::+),)+
        }

        impl Call {
            /// Makes the call and drops a successful response.
            pub async fn send(self, server: &TestServer) -> Result<(), Status> {
                match self {
                    $(Self::$name(request) => server.$client().$method(request).await.map(drop),)+
                }
            }
        }

        $(impl From<pb::$($request)::+> for Call {
            fn from(request: pb::$($request)::+) -> Self {
                Self::$name(request)
            }
        })+
    };
}

calls! {
    CreateEvent(CreateEventRequest) = events.create_event;
    BatchCreateEvents(BatchCreateEventsRequest) = events.batch_create_events;
    GetEvent(GetEventRequest) = events.get_event;
    ListEvents(ListEventsRequest) = events.list_events;
    UpdateEvent(UpdateEventRequest) = events.update_event;
    OpenEvent(OpenEventRequest) = events.open_event;
    CloseEvent(CloseEventRequest) = events.close_event;
    CancelEvent(CancelEventRequest) = events.cancel_event;
    DeleteEvent(DeleteEventRequest) = events.delete_event;
    GetAvailability(GetAvailabilityRequest) = events.get_availability;
    BatchGetAvailability(BatchGetAvailabilityRequest) = events.batch_get_availability;
    VerifyEvent(VerifyEventRequest) = events.verify_event;
    Reserve(ReserveRequest) = reservations.reserve;
    Confirm(ConfirmRequest) = reservations.confirm;
    Cancel(CancelRequest) = reservations.cancel;
    Extend(ExtendRequest) = reservations.extend;
    Amend(AmendRequest) = reservations.amend;
    GetReservation(GetReservationRequest) = reservations.get_reservation;
    ListReservations(ListReservationsRequest) = reservations.list_reservations;
    JoinWaitlist(JoinWaitlistRequest) = waitlist.join_waitlist;
    LeaveWaitlist(LeaveWaitlistRequest) = waitlist.leave_waitlist;
    AmendWaitlistEntry(AmendWaitlistEntryRequest) = waitlist.amend_waitlist_entry;
    PromoteWaitlistEntry(PromoteWaitlistEntryRequest) = waitlist.promote_waitlist_entry;
    GetWaitlistEntry(GetWaitlistEntryRequest) = waitlist.get_waitlist_entry;
    ListWaitlist(ListWaitlistRequest) = waitlist.list_waitlist;
    ListChanges(ListChangesRequest) = feed.list_changes;
    SearchReservations(SearchReservationsRequest) = reservations.search_reservations;
    ListEventCounts(ListEventCountsRequest) = events.list_event_counts;
    GetCaller(GetCallerRequest) = callers.get_caller;
    RunConcurrencyTest(diagnostics::RunConcurrencyTestRequest) = diagnostics.run_concurrency_test;
}
