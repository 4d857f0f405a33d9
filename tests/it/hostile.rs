//! Clients that mean no good, or don't know better: each hurts itself only.

mod calls;
mod connections;
mod layers;
