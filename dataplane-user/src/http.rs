//! HTTP: metrics, health and the status, for scrapers and probes. It only tells; nothing can be changed by it.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::serve::View;

/// Answers requests until aborted.
pub async fn serve(listener: TcpListener, view: View) {
    if let Err(error) = axum::serve(listener, router(view)).await {
        tracing::error!("HTTP does not answer any more: {error}");
    }
}

fn router(view: View) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/status", get(status))
        .with_state(view)
}

/// The version of the text format is part of its type.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn metrics(State(view): State<View>) -> Response {
    match view.metrics().await {
        Ok(page) => ([(header::CONTENT_TYPE, PROMETHEUS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the loop still comes round: restarting the agent mends nothing else.
async fn health(State(view): State<View>) -> Response {
    let silence = view.recorder.silence();
    if silence <= view.patience {
        return "alive\n".into_response();
    }
    let text = format!("the loop has not come round for {} s\n", silence.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn readiness(State(view): State<View>) -> Response {
    match view.status.borrow().unready() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn status(State(view): State<View>) -> Response {
    match serde_json::to_string(&view.status().await) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
