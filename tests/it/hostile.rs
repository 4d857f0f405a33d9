//! Hostile and broken clients: each harms only itself.

mod calls;
mod connections;
mod layers;
