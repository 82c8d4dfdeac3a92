//! `/auth`: every answer is for the person who asked alone.

mod cancel;
mod choice;
mod close;
mod code;
mod logout;
mod look;
mod start;
mod status;
mod whom;
mod words;

pub(super) use cancel::cancel;
pub(super) use choice::{choose, lapsed, may_choose, waits};
pub(super) use close::{Outcome, close_all};
pub(super) use code::finish;
pub(super) use logout::{Revoke, logout};
pub(super) use look::look;
pub(super) use start::start;
pub(super) use status::status;
pub(super) use whom::{For, tenant};
pub(super) use words::signed_in;
