//! Connections, from the socket to HTTP/2, and every limit on them and on their calls.
//!
//! A connection or call meets the limits in this order. The setting names the default; a limit without a setting is a
//! constant of its file. A call meets the limits from *deadline* on, in the layers of `rpc::layers`.
//!
//! | limit | setting and default | beyond it | where |
//! | --- | --- | --- | --- |
//! | connections in all | file descriptors less 256 | closed | [`connection_limit`] |
//! | connections from one address | `limits.connections_per_address` 1024 | closed | [`connection_limit`] |
//! | TLS handshakes at once | 256 | the oldest is closed | [`handshake_limit`] |
//! | time for the TLS handshake | `server.handshake_timeout` 10 s | closed | [`listener`] |
//! | time for the HTTP/2 preface | `server.handshake_timeout` 10 s | closed | [`preface_timeout`] |
//! | connections that wait for HTTP/2 | 64 | they wait | [`listener`] |
//! | time without a sign of life | `server.keepalive_interval` 30 s and `keepalive_timeout` 20 s | closed | HTTP/2 |
//! | streams on one connection | `server.max_streams_per_connection` 512 | stream refused | HTTP/2 |
//! | streams reset early, and errors | 64 | closed | HTTP/2 |
//! | bytes of one connection that are not read yet | 1 MiB | the sender waits | HTTP/2 |
//! | metadata of one call | 16 KiB | refused | HTTP/2 |
//! | reads while many calls run | 2 KiB a turn, from ¾ of `server.max_in_flight` on | waits up to 100 ms | [`read_throttle`] |
//! | bytes pending for clients | 12 MiB in all | the slowest client is closed | [`slow_client`] |
//! | time for a response to be read | `server.answer_timeout` 60 s | closed | [`slow_client`] |
//! | deadline | `server.default_deadline` 10 s, `max_deadline` 60 s | DEADLINE | `deadline` |
//! | calls a second of one address | `limits.address_rate` 0, `address_burst` 200 | RATE_LIMITED | `auth` |
//! | calls a second of one principal | `limits.principal_rate` 0, `principal_burst` 100 | RATE_LIMITED | `auth` |
//! | streams of one principal | `limits.watches_per_principal` 0 | WATCH_LIMIT | `auth` |
//! | time for the message | `server.message_timeout` 10 s | MESSAGE_LATE | `message_buffer` |
//! | large responses at once | `server.max_large_answers` 3 | they wait | [`fair_queue`] |
//! | bytes of calls that wait for that | 8 MiB | OVERLOADED | [`fair_queue`] |
//! | calls at once | `server.max_in_flight` 1024 | OVERLOADED | [`concurrency_limit`] |
//! | health watches at once | 2048 | OVERLOADED | `stream_limits` |
//! | reflection streams at once | 64, each for `server.max_deadline` 60 s | OVERLOADED, DEADLINE | `stream_limits` |
//! | bytes of a message | `server.max_request_bytes` 1 MiB, also unpacked | MESSAGE_TOO_LARGE | tonic |
//! | watches at once | `watch.max_watches` 10 000 | OVERLOADED | `ops` |
//! | commands that wait for a batch | `execution.max_queue` 4096 a lane | OVERLOADED | `ops` |
//! | time to finish when the server stops | `server.drain_limit` 20 s | cut off | `app` |
//!
//! A rate or count of 0 is no limit.

pub mod concurrency_limit;
pub mod connection;
pub mod connection_limit;
pub mod fair_queue;
pub mod handshake_limit;
pub mod listener;
pub mod preface_timeout;
pub mod read_throttle;
pub mod slow_client;
pub mod tls;
