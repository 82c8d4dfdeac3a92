//! The figures that this process counts for `/metrics`. Routes are those of the router, never a request's
//! path.

use std::{sync::OnceLock, time::Duration};

use axum::http::StatusCode;
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
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

/// The figures of one route.
#[derive(Debug)]
pub(super) struct RouteFigures {
    route: String,
    /// Those of its requests with the status 200, which most have. The others are looked up.
    ok: OnceLock<(Counter, Histogram)>,
}

impl RouteFigures {
    /// Those of this route, which is one of the router's.
    pub(super) fn new(route: &str) -> Self {
        Self { route: route.to_owned(), ok: OnceLock::new() }
    }
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

    /// Counts a request.
    pub(super) fn count_request(&self, of: &RouteFigures, status: StatusCode, took: Duration) {
        let found = || {
            let labels = [("route", of.route.clone()), ("status", status.as_u16().to_string())];
            let requests = self.requests.get_or_create_owned(&labels);
            (requests, self.request_seconds.get_or_create_owned(&labels))
        };
        let count = |(requests, seconds): &(Counter, Histogram)| {
            requests.inc();
            seconds.observe(took.as_secs_f64());
        };
        match status {
            StatusCode::OK => count(of.ok.get_or_init(found)),
            _ => count(&found()),
        }
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
