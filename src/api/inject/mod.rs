//! The injecting proxy.

mod route;

pub use route::{Credential, InjectRoute, RouteHeaders};
