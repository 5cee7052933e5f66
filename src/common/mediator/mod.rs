//! Sends each command or query to the one handler registered for its type.
//!
//! The map is keyed by [`TypeId`], but the value keeps its handler's type: a send costs one
//! `downcast_ref` and one boxed future, and no request or answer is ever erased. It knows no
//! transport: deadlines, identity and limits are decided before a request gets here.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::error::{Coded, ErrorCode, FieldViolation};

mod behaviours;

/// A command or a query: plain data, named for the intent.
pub trait Request: Send + 'static {
    /// What the handler answers with; a stream where the answer is one.
    type Output: Send + 'static;
    /// How the handler can fail.
    type Error: Coded;
    /// Dotted name used in spans, logs and metrics: `market_data.sync_symbol`.
    const NAME: &'static str;
}

/// Carries out one kind of request.
pub trait Handler<R: Request>: Send + Sync + 'static {
    /// Carries out `request`.
    fn handle(&self, request: R) -> impl Future<Output = Result<R::Output, R::Error>> + Send;
}

/// Why a send failed.
#[derive(Debug, Error)]
pub enum SendError<E: Coded> {
    /// Nothing was registered for this request type.
    #[error("no handler is registered for `{0}`")]
    NoHandler(&'static str),
    /// The handler ran and failed.
    #[error(transparent)]
    Handler(E),
}

impl<E: Coded> SendError<E> {
    fn handlers(&self) -> Option<&E> {
        match self {
            Self::NoHandler(_) => None,
            Self::Handler(error) => Some(error),
        }
    }
}

impl<E: Coded> Coded for SendError<E> {
    fn code(&self) -> ErrorCode {
        self.handlers().map_or(ErrorCode::Internal, Coded::code)
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        self.handlers().map_or_else(Vec::new, Coded::metadata)
    }

    fn violations(&self) -> Vec<FieldViolation> {
        self.handlers().map_or_else(Vec::new, Coded::violations)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.handlers().and_then(Coded::retry_after)
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        self.handlers().and_then(Coded::resource)
    }

    fn quota(&self) -> Option<(String, String)> {
        self.handlers().and_then(Coded::quota)
    }

    fn is_transient(&self) -> bool {
        self.handlers().is_some_and(Coded::is_transient)
    }
}

/// Routes requests; cheap to clone.
#[derive(Clone)]
pub struct Mediator {
    routes: Arc<HashMap<TypeId, Route>>,
}

/// Collects handlers before the server starts.
#[derive(Default)]
pub struct MediatorBuilder {
    routes: HashMap<TypeId, Route>,
}

struct Route {
    name: &'static str,
    /// Always a `Box<dyn DynHandler<R>>` for the `R` this route is keyed by.
    handler: Box<dyn Any + Send + Sync>,
}

impl Mediator {
    /// Starts an empty registry.
    pub fn builder() -> MediatorBuilder {
        MediatorBuilder::default()
    }

    /// Hands `request` to its handler, within the behaviours, and waits for the answer.
    pub async fn send<R: Request>(&self, request: R) -> Result<R::Output, SendError<R::Error>> {
        let handler = self.route::<R>().ok_or(SendError::NoHandler(R::NAME))?;
        behaviours::observe::<R>(handler.handle_boxed(request)).await.map_err(SendError::Handler)
    }

    /// Whether `R` can be sent.
    pub fn handles<R: Request>(&self) -> bool {
        self.route::<R>().is_some()
    }

    fn route<R: Request>(&self) -> Option<&dyn DynHandler<R>> {
        let route = self.routes.get(&TypeId::of::<R>())?;
        route.handler.downcast_ref::<Box<dyn DynHandler<R>>>().map(AsRef::as_ref)
    }
}

impl MediatorBuilder {
    /// Routes `R` to `handler`.
    ///
    /// # Panics
    ///
    /// If `R` already has a handler: two would mean one is dead code.
    #[must_use]
    pub fn register<R: Request>(mut self, handler: impl Handler<R>) -> Self {
        let handler: Box<dyn DynHandler<R>> = Box::new(handler);
        let route = Route { name: R::NAME, handler: Box::new(handler) };
        let replaced = self.routes.insert(TypeId::of::<R>(), route);
        assert!(replaced.is_none(), "two handlers for `{}`", R::NAME);
        self
    }

    /// Freezes the registry.
    #[must_use]
    pub fn build(self) -> Mediator {
        Mediator { routes: Arc::new(self.routes) }
    }
}

impl fmt::Debug for Mediator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.routes.values().map(|route| route.name)).finish()
    }
}

impl fmt::Debug for MediatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.routes.values().map(|route| route.name)).finish()
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The object-safe twin of [`Handler`], implemented for every handler and named nowhere else.
trait DynHandler<R: Request>: Send + Sync {
    fn handle_boxed(&self, request: R) -> BoxFuture<'_, Result<R::Output, R::Error>>;
}

impl<R: Request, H: Handler<R>> DynHandler<R> for H {
    fn handle_boxed(&self, request: R) -> BoxFuture<'_, Result<R::Output, R::Error>> {
        Box::pin(self.handle(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Error, PartialEq)]
    #[error("odd")]
    struct Odd;

    impl Coded for Odd {
        fn code(&self) -> ErrorCode {
            ErrorCode::InvalidFields
        }

        fn metadata(&self) -> Vec<(&'static str, String)> {
            vec![("remainder", "1".to_owned())]
        }
    }

    struct Halve(u32);

    impl Request for Halve {
        type Output = u32;
        type Error = Odd;
        const NAME: &'static str = "test.halve";
    }

    struct Halver;

    impl Handler<Halve> for Halver {
        async fn handle(&self, Halve(number): Halve) -> Result<u32, Odd> {
            if number.is_multiple_of(2) { Ok(number / 2) } else { Err(Odd) }
        }
    }

    #[tokio::test]
    async fn sends_to_the_registered_handler() {
        let mediator = Mediator::builder().register(Halver).build();
        assert_eq!(mediator.send(Halve(8)).await.unwrap(), 4);
        assert!(mediator.handles::<Halve>());
    }

    #[tokio::test]
    async fn keeps_the_handlers_own_error_and_its_details() {
        let mediator = Mediator::builder().register(Halver).build();
        let error = mediator.send(Halve(7)).await.unwrap_err();
        assert!(matches!(error, SendError::Handler(Odd)));
        assert_eq!(error.code(), ErrorCode::InvalidFields);
        assert_eq!(error.metadata(), Odd.metadata());
    }

    #[tokio::test]
    async fn names_the_request_nobody_handles() {
        let error = Mediator::builder().build().send(Halve(8)).await.unwrap_err();
        assert_eq!(error.to_string(), "no handler is registered for `test.halve`");
        assert_eq!(error.code(), ErrorCode::Internal);
    }

    #[test]
    #[should_panic(expected = "two handlers for `test.halve`")]
    fn two_handlers_for_one_request_panic_at_start() {
        let _builder = Mediator::builder().register(Halver).register(Halver);
    }
}
