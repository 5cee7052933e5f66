//! Finds out who calls, and refuses what they may not do.
//!
//! Where a key file is given, a key with the right scope is needed for all but public methods,
//! whatever certificate the caller has. Without one everybody may do everything.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::TryFutureExt as _;
use futures::future::{Either, ErrInto, Ready, ready};
use http::header::AUTHORIZATION;
use http::{Request, Response};
use ipnet::IpNet;
use thiserror::Error;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{BoxError, Layer, Service};

use super::api_key::ApiKey;
use super::certificate::certificate_name;
use super::key_file::KeyFile;
use super::origin::caller_address;
use super::principal::Principal;
use super::scope::{Access, Rule, Scope};
use crate::common::error::{Coded, ErrorCode};
use crate::common::grpc::to_status;

/// Why a caller is turned away.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AccessError {
    /// They show no key.
    #[error("an API key is required: send `authorization: Bearer <key>`")]
    NoKey,
    /// They show a key that is not known.
    #[error("the API key is not valid")]
    WrongKey,
    /// Their key does not allow it.
    #[error("the API key lacks the scope `{0}`")]
    Lacks(Scope),
}

impl Coded for AccessError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoKey | Self::WrongKey => ErrorCode::Unauthenticated,
            Self::Lacks(_) => ErrorCode::PermissionDenied,
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NoKey | Self::WrongKey => Vec::new(),
            Self::Lacks(scope) => vec![("scope", scope.to_string())],
        }
    }
}

/// The rule of each method, by path (`/package.Service/Method`).
pub type Rules = HashMap<String, Rule>;

/// Wraps services in [`Authentication`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuthenticationLayer {
    rules: Arc<Rules>,
    keys: Option<KeyFile>,
    proxies: Arc<[IpNet]>,
}

impl AuthenticationLayer {
    /// With `keys`, where callers must show one; `proxies` are believed about where calls come from.
    pub fn new(rules: Rules, keys: Option<KeyFile>, proxies: Vec<IpNet>) -> Self {
        Self { rules: Arc::new(rules), keys, proxies: proxies.into() }
    }

    /// Who makes the call, if they may.
    fn admit<B>(&self, request: &Request<B>, rule: Rule) -> Result<Principal, AccessError> {
        let (Access::Needs(scope), Some(keys)) = (rule.access, &self.keys) else {
            return Ok(self.unnamed(request));
        };
        let key = bearer(request)?;
        let ring = keys.ring();
        let entry = ring.find(&key).ok_or(AccessError::WrongKey)?;
        if entry.scopes.allow(scope) {
            Ok(Principal::ApiKey(Arc::clone(&entry.principal)))
        } else {
            Err(AccessError::Lacks(scope))
        }
    }

    /// Who makes a call without a key.
    fn unnamed<B>(&self, request: &Request<B>) -> Principal {
        let extensions = request.extensions();
        let certificates =
            extensions.get::<TlsConnectInfo<TcpConnectInfo>>().and_then(TlsConnectInfo::peer_certs);
        if let Some(leaf) = certificates.as_ref().and_then(|chain| chain.first()) {
            return Principal::Certificate(certificate_name(leaf));
        }
        let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        Principal::Address(caller_address(peer, request.headers(), &self.proxies))
    }
}

/// The key in the request's only `authorization` header.
fn bearer<B>(request: &Request<B>) -> Result<ApiKey, AccessError> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next().ok_or(AccessError::NoKey)?, values.next()) else {
        return Err(AccessError::WrongKey);
    };
    let text = value.to_str().map_err(|_| AccessError::WrongKey)?;
    let (scheme, key) = text.trim().split_once(' ').ok_or(AccessError::WrongKey)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AccessError::NoKey);
    }
    ApiKey::parse(key.trim()).ok_or(AccessError::WrongKey)
}

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authentication<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authentication { inner, layer: self.clone() }
    }
}

/// Lets calls through to `inner` with the [`Principal`] and the [`Rule`] in their extensions.
#[derive(Clone, Debug)]
pub struct Authentication<S> {
    inner: S,
    layer: AuthenticationLayer,
}

impl<S, In, Out> Service<Request<In>> for Authentication<S>
where
    S: Service<Request<In>, Response = Response<Out>, Error: Into<BoxError>>,
{
    type Response = Response<Out>;
    type Error = BoxError;
    type Future = Either<Ready<Result<Response<Out>, BoxError>>, ErrInto<S::Future, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let rule = self.layer.rules.get(request.uri().path()).copied().unwrap_or(Rule::UNKNOWN);
        match self.layer.admit(&request, rule) {
            Ok(principal) => {
                // Nothing behind this needs it, and what is not there cannot be logged.
                request.headers_mut().remove(AUTHORIZATION);
                request.extensions_mut().insert(principal);
                request.extensions_mut().insert(rule);
                Either::Right(self.inner.call(request).err_into())
            }
            Err(refused) => Either::Left(ready(Err(to_status(&refused).into()))),
        }
    }
}
