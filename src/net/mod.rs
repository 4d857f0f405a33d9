//! Connections, from the socket to HTTP, and every limit on them and on their calls.
//!
//! A connection and its calls meet the limits in this order, a call from *deadline* on, in the layers of `rpc::layers`.
//! A limit has the setting and default that are named here, or is a constant of its file. A rate, count or age of 0 is
//! no limit. The defaults *on a network* are those of a `server.listen` that other machines can reach.
//!
//! | limit | setting and default | beyond it | where |
//! | --- | --- | --- | --- |
//! | connections in all | the file descriptors less 256 | closed | [`connection_limit`] |
//! | connections from one address | `limits.connections_per_address = 1024` | closed | [`connection_limit`] |
//! | TLS handshakes at once | 256 | the oldest is closed | [`handshake_limit`] |
//! | time for the TLS handshake | `server.handshake_timeout = "10s"` | closed | [`listener`] |
//! | time for the HTTP/2 preface | `server.handshake_timeout = "10s"` | closed | [`preface_timeout`] |
//! | connections that wait for HTTP/2 | 64 | they wait | [`listener`] |
//! | HTTP/1.1, unless `web.allowed_origins` is set | 2 s, 64 KiB | a sentence, and closed | [`serve`] |
//! | age of a connection, less up to a fifth | `server.max_connection_age = "1h"` | GOAWAY | [`serve`] |
//! | age of its client certificate | the certificate's own, and a reload | GOAWAY | [`client_certificates`] |
//! | time for its calls then | `server.drain_limit = "20s"` | closed | [`serve`] |
//! | silence before a ping | `server.keepalive_interval = "30s"` | pinged | HTTP/2 |
//! | time to answer a ping | `server.keepalive_timeout = "20s"` | closed | HTTP/2 |
//! | streams on one connection | `server.max_streams_per_connection = 512` | stream refused | HTTP/2 |
//! | streams reset early, and errors | 64 | closed | HTTP/2 |
//! | bytes of one connection that are not read yet | 1 MiB | the sender waits | HTTP/2 |
//! | metadata of one call | 16 KiB | call refused | HTTP/2 |
//! | HTTP/1.1: time for a header, and between requests | `server.handshake_timeout = "10s"` | closed | [`serve`] |
//! | HTTP/1.1: bytes of a header | 16 KiB | closed | [`serve`] |
//! | HTTP/1.1: time for a client to read | `server.response_timeout = "60s"` | closed | [`connection`] |
//! | reads without a turn | while ¾ of `server.max_in_flight = 1024` run | 2 KiB a turn, within 100 ms | [`read_throttle`] |
//! | bytes pending for clients | 12 MiB in all | the slowest is closed | [`slow_client`] |
//! | time for a response to be read | `server.response_timeout = "60s"` | closed | [`slow_client`] |
//! | deadline, if the caller sets none | `server.default_deadline = "10s"` | DEADLINE | `deadline` |
//! | deadline | `server.max_deadline = "60s"` | DEADLINE | `deadline` |
//! | calls a second of one address | `limits.address_rate = 0`; on a network `limits.address_rate = 10_000` | RATE_LIMITED | `auth` |
//! | calls at once of one address | `limits.address_burst = 200`; on a network `limits.address_burst = 20_000` | RATE_LIMITED | `auth` |
//! | lookups a second of unknown sessions of one address | `limits.unknown_session_rate = 200` | RATE_LIMITED | `auth` |
//! | such lookups at once | `limits.unknown_session_burst = 2000` | RATE_LIMITED | `auth` |
//! | calls a second of one principal | `limits.principal_rate = 0`; on a network `limits.principal_rate = 5_000` | RATE_LIMITED | `auth` |
//! | calls at once of one principal | `limits.principal_burst = 100`; on a network `limits.principal_burst = 10_000` | RATE_LIMITED | `auth` |
//! | streams of one principal | `limits.watches_per_principal = 0`; on a network `limits.watches_per_principal = 1_000` | WATCH_LIMIT | `auth` |
//! | time for the message | `server.message_timeout = "10s"` | MESSAGE_LATE | `message_buffer` |
//! | large responses at once | `server.max_large_responses = 3` | they wait | [`fair_queue`] |
//! | costly calls at once | `server.max_costly_calls = 1` | they wait, or share an answer | [`fair_queue`] |
//! | bytes of the calls that wait for that | 8 MiB | OVERLOADED | [`fair_queue`] |
//! | calls at once | `server.max_in_flight = 1024` | OVERLOADED | [`concurrency_limit`] |
//! | health watches of a connection, of an address | 8, 512 | OVERLOADED | [`peer_slots`] |
//! | health watches at once | 2048 | the fullest address makes room | [`peer_slots`] |
//! | reflection streams of a connection, of an address | 8, 32 | OVERLOADED | [`peer_slots`] |
//! | reflection streams at once | 64 | the fullest address makes room | [`peer_slots`] |
//! | time of a reflection stream | `server.max_deadline = "60s"` | DEADLINE | `stream_limits` |
//! | bytes of a message, packed and unpacked | `server.max_request_bytes = 1_048_576` | MESSAGE_TOO_LARGE | tonic |
//! | database connections of mutations, and of reads | ¾ of `database.max_connections = 32` each | they wait | `store` |
//! | time to wait for one | `database.acquire_timeout = "2s"` | OVERLOADED | `store` |
//! | watches at once | `watch.max_watches = 10_000` | OVERLOADED | `ops` |
//! | commands that wait in a lane | `execution.max_queue = 4096` | OVERLOADED | `ops` |
//! | time to finish when the server stops | `server.drain_limit = "20s"` | cut off | `app` |
//!
//! The metrics have a listener of their own, as any further plain HTTP has:
//!
//! | limit | constant | beyond it | where |
//! | --- | --- | --- | --- |
//! | connections in all, of one address | 32, 8 | closed | [`http_listener`] |
//! | time for the header of the request | 5 s | closed | [`http_listener`] |
//! | time for a connection, which is one request | 30 s | closed | [`http_listener`] |

pub mod acceptor;
pub mod client_certificates;
pub mod concurrency_limit;
pub mod connection;
pub mod connection_limit;
pub mod fair_queue;
pub mod handshake_limit;
pub mod http_listener;
pub mod listener;
pub mod peer_slots;
pub mod preface_timeout;
pub mod read_throttle;
pub mod serve;
pub mod slow_client;
pub mod tls;

#[cfg(test)]
mod tests;
