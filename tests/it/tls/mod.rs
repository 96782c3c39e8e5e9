//! TLS: what every stream promises, and what only TLS does.

mod authority;
mod certificates;
mod endings;
mod endpoints;
mod flow;
mod interop;
mod speaker;
mod starttls;
mod talking;
