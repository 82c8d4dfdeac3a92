//! `/metrics`: figures for Prometheus, counted by this process or read from the store at each scrape.
//!
//! A reader needs an operator key with the right `metrics`. The socket is open to workers, and the
//! figures cover the sessions of everyone. No label names a user, an account, a secret or a
//! conversation; routes are those of the router, never a request's path.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension,
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    metrics::{Labels, PREFIX, encoded},
    openapi::MetricsProblems,
    operators::Right,
    problem::Problem,
    request::Parameters,
    shares::ConnectionShare,
    state::Api,
};
use crate::{
    broker::{AccessState, SessionState, Status},
    ids::UnixTime,
    session::is_known_expiry,
};

/// The Prometheus text format, which every scraper takes.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Reports the figures of this process and of the sessions, in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "health", security(("operator_key" = [])),
    responses((status = 200, description = "The figures. No label names a user or holds a secret.", body = String, content_type = "text/plain"), MetricsProblems)
)]
pub(super) async fn scrape(
    State(api): State<Arc<Api>>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = api.caller(&headers)?;
    let answer = async {
        caller.operator_with(Right::Metrics)?;
        Parameters::of(query.as_deref(), &[])?;
        let statuses = api.broker.status_of_all().await.map_err(|error| Problem::from(&error))?;
        let mut text = api.metrics.text();
        text.push_str(&present(&api, &statuses, api.broker.now()));
        Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
    };
    share.run_request(caller.holding(), Box::pin(answer)).await
}

/// The figures of the moment: they are computed at each scrape, so that they count down.
fn present(api: &Api, statuses: &[Status], now: UnixTime) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    let mut gauge = |name: &str, help: &str, value: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    gauge("workers", "Live workers", api.capabilities.live());
    gauge("refreshes_in_progress", "Refreshes in progress in this process", api.broker.flights());
    gauge("unsaved_sessions", "Sessions whose new tokens are not saved yet", api.broker.unsaved().len());
    Sessions::of(statuses, now).register(&mut registry);
    encoded(&registry)
}

/// The figures of the sessions, by provider.
#[derive(Default)]
struct Sessions {
    states: Family<Labels<2>, Gauge>,
    dead: Family<Labels<1>, Gauge>,
    to_expiry: Family<Labels<1>, Gauge>,
    age: Family<Labels<1>, Gauge>,
}

impl Sessions {
    fn of(statuses: &[Status], now: UnixTime) -> Self {
        let sessions = Self::default();
        let (mut soonest, mut oldest) = (BTreeMap::new(), BTreeMap::new());
        for status in statuses {
            let (provider, state) = (status.tenant.provider.to_string(), status.state());
            let labels = [("provider", provider.clone()), ("state", state.name().to_owned())];
            sessions.states.get_or_create(&labels).inc();
            let dead = sessions.dead.get_or_create_owned(&[("provider", provider.clone())]);
            if state == SessionState::Ended {
                dead.inc();
                continue;
            }
            if let AccessState::Valid(at) | AccessState::Expired(at) = status.access
                && is_known_expiry(at)
            {
                let left = at.saturating_sub(now);
                let soonest = soonest.entry(provider.clone()).or_insert(left);
                *soonest = left.min(*soonest);
            }
            if let Some(at) = status.issued_at {
                let age = now.saturating_sub(at);
                let oldest = oldest.entry(provider).or_insert(age);
                *oldest = age.max(*oldest);
            }
        }
        for (figures, family) in [(soonest, &sessions.to_expiry), (oldest, &sessions.age)] {
            for (provider, seconds) in figures {
                family.get_or_create(&[("provider", provider)]).set(seconds);
            }
        }
        sessions
    }

    fn register(self, registry: &mut Registry) {
        registry.register("sessions", "Sessions by state", self.states);
        registry.register("sessions_dead", "Sessions that their provider has ended", self.dead);
        registry.register(
            "token_time_to_expiry_seconds",
            "Seconds until the first access token of the provider's live sessions expires; negative past it",
            self.to_expiry,
        );
        registry.register(
            "token_age_seconds",
            "Seconds since the longest unrefreshed of the provider's live sessions was last refreshed",
            self.age,
        );
    }
}
