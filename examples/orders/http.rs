//! What the order service answers over HTTP.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tidelock::{health, prelude::*};
use tracing::error;
use uuid::Uuid;

use crate::{
    inventory::{self, Shelf},
    orders::{self, Book, OrderRequest, Refusal, legible},
    roles::Role,
    shop::Shop,
};

#[derive(Clone)]
struct Service<D> {
    database: D,
    pipeline: Arc<Pipeline>,
}

/// Answers until the process ends. Only the order service takes orders; every process tells of its health.
pub(crate) async fn serve<D: Shop>(
    listen: SocketAddr,
    database: D,
    pipeline: Arc<Pipeline>,
    services: &[Role],
) -> Result<(), BoxError> {
    let mut routes =
        Router::new().route("/health/live", get(async || "alive\n")).route("/health/ready", get(ready::<D>));
    if services.contains(&Role::Orders) {
        routes = routes
            .route("/orders", post(place::<D>))
            .route("/orders/{id}", get(find::<D>))
            .route("/stock", get(stock::<D>));
    }
    let listener =
        tokio::net::TcpListener::bind(listen).await.map_err(|error| format!("{listen}: {error}"))?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let routes = routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(Service { database, pipeline });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

async fn place<D: Shop>(
    State(service): State<Service<D>>,
    headers: HeaderMap,
    body: Result<Json<OrderRequest>, JsonRejection>,
) -> Result<Response, Sentence> {
    let Json(request) = body.map_err(|rejection| Sentence(rejection.status(), rejection.body_text()))?;
    let key = idempotency_key(&headers)?;
    let placed = orders::place(&service.database, request, key).await.map_err(|refusal| match refusal {
        Refusal::Request(sentence) => Sentence(StatusCode::UNPROCESSABLE_ENTITY, sentence),
        Refusal::Failure(error) => Sentence::failure(error),
    })?;
    let status = if placed.new { StatusCode::CREATED } else { StatusCode::OK };
    let place = format!("/orders/{}", placed.order_id);
    Ok((status, [(LOCATION, place)], Json(json!({ "order_id": placed.order_id }))).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Sentence> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let refuse = |sentence| Sentence(StatusCode::BAD_REQUEST, sentence);
    let key = value.to_str().map_err(|_| refuse("the Idempotency-Key is not plain ASCII".to_owned()))?;
    legible("the Idempotency-Key", key).map_err(refuse)?;
    Ok(Some(key))
}

async fn find<D: Shop>(
    State(service): State<Service<D>>,
    Path(id): Path<String>,
) -> Result<Json<orders::Order>, Sentence> {
    let unknown = || Sentence(StatusCode::NOT_FOUND, format!("there is no order {id:?}"));
    let order_id = Uuid::try_parse(&id).map_err(|_| unknown())?;
    let mut connection = service.database.reading().await.map_err(Sentence::failure)?;
    let order = connection.order(order_id).await.map_err(Sentence::failure)?;
    order.map(Json).ok_or_else(unknown)
}

/// A look into the inventory's table, for people. No step of the pipeline reads it from here.
async fn stock<D: Shop>(State(service): State<Service<D>>) -> Result<Json<Vec<inventory::Stock>>, Sentence> {
    let mut connection = service.database.reading().await.map_err(Sentence::failure)?;
    connection.stock().await.map(Json).map_err(Sentence::failure)
}

async fn ready<D: Shop>(State(service): State<Service<D>>) -> (StatusCode, Json<Value>) {
    let ready = service.pipeline.is_ready();
    let components: BTreeMap<String, String> =
        service.pipeline.health().into_iter().map(|(name, state)| (name, describe(state))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "components": components })))
}

fn describe(state: health::State) -> String {
    match state {
        health::State::Starting => "starting".to_owned(),
        health::State::Ready => "ready".to_owned(),
        health::State::Retrying(why) => format!("retrying: {why}"),
        health::State::Recovering(why) => format!("recovering: {why}"),
        health::State::Failed(why) => format!("failed: {why}"),
    }
}

async fn no_route() -> Sentence {
    Sentence(
        StatusCode::NOT_FOUND,
        "nothing here; there are /health/live and /health/ready, and at the order service /orders, /orders/{id} \
         and /stock"
            .to_owned(),
    )
}

async fn no_method() -> Sentence {
    Sentence(
        StatusCode::METHOD_NOT_ALLOWED,
        "orders are placed with POST /orders, everything else is asked with GET".to_owned(),
    )
}

/// What is told instead of an answer.
struct Sentence(StatusCode, String);

impl Sentence {
    /// The reason goes to the log: it is for the operator, not for the customer.
    fn failure(error: impl Into<BoxError>) -> Self {
        error!(error = %error.into(), "a request failed");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "something failed here, try again later".to_owned())
    }
}

impl IntoResponse for Sentence {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}
