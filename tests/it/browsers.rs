//! Browsers: a page in Chromium calls by gRPC-Web; and HTTP/1.1, which browsers speak without TLS, has bounds of its own.

mod http1;
mod page;
