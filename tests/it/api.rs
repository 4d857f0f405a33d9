//! Promises of the API as a whole, each by its descriptors and on a server.

mod counts;
mod descriptors;
mod find;
mod mutations;
mod reasons;
mod watches;
