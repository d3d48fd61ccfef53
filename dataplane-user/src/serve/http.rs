//! HTTP: metrics, health and the status, for scrapers and probes. It is read-only.
//!
//! Anybody on this machine can connect. Therefore the number of connections and their duration are limited,
//! the `Host` of a request is checked before a detailed answer, and confidential values are left out without
//! `--http-details`.

mod host;
mod public;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::limits;
use crate::serve::{View, connections};

/// Settings of HTTP.
#[derive(Debug)]
pub struct Http {
    /// The listener for requests.
    pub listener: std::net::TcpListener,
    /// Whether answers contain keys, endpoints and addresses of the underlay.
    pub details: bool,
    /// Host names that requests may have, besides those of the loopback.
    pub hosts: Vec<String>,
}

/// Answers requests until aborted.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let accept = async || listener.accept().await.map(|(stream, _)| stream);
    connections::serve("HTTP", accept, |stream| answer(stream, router.clone())).await;
}

async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(limits::HTTP_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("an HTTP client disconnected: {error}"),
        Err(_) => tracing::debug!("an HTTP client was too slow"),
    }
}

/// The state of the handlers.
#[derive(Clone, Debug)]
struct Site {
    view: View,
    details: bool,
    hosts: Arc<[String]>,
    in_flight: Arc<Semaphore>,
}

pub(crate) fn router(view: View, details: bool, hosts: Vec<String>) -> Router {
    let site = Site {
        view,
        details,
        hosts: hosts.into(),
        in_flight: Arc::new(Semaphore::new(limits::HTTP_ANSWERS)),
    };
    let detailed = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route_layer(middleware::from_fn_with_state(site.clone(), guard));
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .merge(detailed)
        .with_state(site)
}

/// Accepts only requests for this agent, and handles a few at a time.
async fn guard(State(site): State<Site>, request: Request, next: Next) -> Response {
    if let Err(other) = host::check(&request, &site.hosts) {
        let text = format!(
            "this agent does not answer requests for host {}; use an IP address or localhost, or start the \
             agent with --http-host\n",
            other.escape_default()
        );
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let _permit = site.in_flight.acquire().await;
    next.run(request).await
}

/// The content type, with the version of the text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn metrics(State(site): State<Site>) -> Response {
    match site.view.metrics(site.details).await {
        Ok(page) => ([(header::CONTENT_TYPE, PROMETHEUS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the loop is alive: a restart of the agent fixes nothing else.
async fn health(State(site): State<Site>) -> Response {
    match site.view.heartbeat.hangs() {
        None => "alive\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Whether the node is ready, and the age of that. It shows only reasons, because probes may use any host
/// name.
async fn readiness(State(site): State<Site>) -> Response {
    let status = site.view.current();
    let ago = match status.reconciliation.ended_ago_s {
        None => "no reconciliation has ended yet".to_owned(),
        Some(seconds) => format!("the last reconciliation ended {seconds} s ago"),
    };
    if status.ready {
        return format!("ready; {ago}\n").into_response();
    }
    let reasons = public::reasons(&status).join(", ");
    let text = match reasons.as_str() {
        "" => format!("not ready; {ago}\n"),
        reasons => format!("not ready: {reasons}, see `adit status`; {ago}\n"),
    };
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn status(State(site): State<Site>) -> Response {
    let mut status = site.view.status().await;
    if !site.details {
        public::leave_out_details(&mut status);
    }
    match serde_json::to_string(&status) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
