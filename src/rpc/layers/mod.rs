//! The layers around every RPC, from the outside in: [`trace`] (span and metrics), [`explain`](explain::explained) (a
//! reason for every refusal), panics to INTERNAL, [`deadline`], [`auth`], [`message_buffer`] (the call's message has to
//! be there), [`call_queue`] (lists, batches and costly calls take turns), [`admission`] (refuses before any work is done),
//! [`raw_body`]. Health and reflection have [`stream_limits`] besides.
//!
//! Around all of them is [`web`], for browsers.
//!
//! Each is a [`middleware`]. A layer that answers before it has the whole request leaves the rest to [`drain_body`].

pub mod admission;
pub mod auth;
pub mod call_queue;
pub mod deadline;
pub mod drain_body;
pub mod explain;
pub mod message_buffer;
pub mod middleware;
pub mod raw_body;
pub mod response_buffer;
pub mod stream_end;
pub mod stream_limits;
pub mod trace;
pub mod web;
