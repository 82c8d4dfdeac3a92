//! The figures that this process counts for `/metrics`. Routes are those of the router, never a request's
//! path.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::broker::{Broker, Durations, durations};

/// The prefix of all names.
pub(super) const PREFIX: &str = "threadkey";

pub(super) type Labels<const N: usize> = [(&'static str, String); N];

/// The figures that this process counts.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Labels<2>, Counter>,
    request_seconds: Durations<Labels<2>>,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn new(broker: &Broker) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        broker.metrics().register(&mut registry);
        let requests = Family::<Labels<2>, Counter>::default();
        registry.register("api_requests", "API requests by route and status", requests.clone());
        let request_seconds: Durations<Labels<2>> = Family::new_with_constructor(durations);
        registry.register(
            "api_request_duration_seconds",
            "Time from an API request's head to its answer's head",
            request_seconds.clone(),
        );
        Self { registry, requests, request_seconds }
    }

    /// Counts a request. `route` is one of the router's.
    pub(super) fn count_request(&self, route: &str, status: StatusCode, took: Duration) {
        let labels = [("route", route.to_owned()), ("status", status.as_u16().to_string())];
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn text(&self) -> String {
        encoded(&self.registry)
    }
}

/// Returns the registry's figures as text.
pub(super) fn encoded(registry: &Registry) -> String {
    let mut text = String::new();
    if prometheus_text::encode(&mut text, registry).is_err() {
        // A `String` takes every text.
        text.clear();
    }
    text
}
