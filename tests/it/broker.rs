//! With a real RabbitMQ: every change is published, commands are executed.

mod commands;
mod crash;
mod first_start;
mod relay;
mod shop;
mod takeover;
