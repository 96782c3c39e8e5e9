//! TLS: what every stream promises, and what only TLS does.

pub mod authority;
mod certificates;
mod contract;
mod endings;
mod endpoints;
pub mod examples;
mod flow;
mod interop;
mod interop_more;
mod limits;
mod orders;
mod refusals;
mod speaker;
mod starttls;
mod stopping;
mod strings;
mod talking;
mod together;
