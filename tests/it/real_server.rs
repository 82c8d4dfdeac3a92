//! threadkey and the certified `oidc-provider`, feature by feature, through Discord and the command line.

mod answers;
mod cells;
mod discovery;
mod hand_out;
mod rows;
mod session;
mod ways;
