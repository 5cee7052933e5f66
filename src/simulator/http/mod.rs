//! The provider's pages: tokens, sign-in, symbol search; and the simulator's own under `/_sim/`.

mod account;
mod body;
mod control;
mod search;

use http::header::{CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::{FaultKind, Shared};

/// A page that nobody wants to read whole, in bytes.
const HUGE: usize = 20_000_000;

/// A request whose body was read.
type Page = Request<String>;

/// Answers a request for a page.
pub(super) async fn respond(request: Request<Incoming>, shared: &Shared) -> Response<String> {
    let request = match body::read(request).await {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let path = request.uri().path().trim_end_matches('/').to_owned();
    if let Some(own) = path.strip_prefix("/_sim/") {
        return control::respond(own, &request, shared);
    }
    if let Some(failure) = fault(shared).await {
        return failure;
    }
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::POST, "/quote_token") => account::quote_token(&request),
        (&Method::POST, "/accounts/signin") => account::sign_in(&request, shared),
        (&Method::POST, "/accounts/two-factor/signin/totp") => account::second_factor(&request),
        (&Method::GET, "/symbol_search") => search::first_version(&request, shared),
        (&Method::GET, "/symbol_search/v3") => search::third_version(&request, shared),
        (&Method::GET, "" | "/chart" | "/disclaimer" | "/regional") => account::home(&request),
        (&Method::GET | &Method::HEAD, path) if path.starts_with("/symbols/") => {
            search::symbol_page(path, shared)
        }
        _ => text(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

/// What goes wrong with every page, if anything does.
async fn fault(shared: &Shared) -> Option<Response<String>> {
    if shared.faults.find(FaultKind::HttpHang, None).is_some() {
        std::future::pending::<()>().await;
    }
    if shared.faults.find(FaultKind::HttpHtml, None).is_some() {
        return Some(html("<html><body>Are you a robot?</body></html>".to_owned()));
    }
    if let Some(fault) = shared.faults.find(FaultKind::HttpHuge, None) {
        let length = fault.number().and_then(|length| usize::try_from(length).ok());
        return Some(text(StatusCode::OK, &" ".repeat(length.unwrap_or(HUGE))));
    }
    let fault = shared.faults.find(FaultKind::HttpStatus, None)?;
    let status = fault.number().and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(|status| !status.is_informational());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = text(status, "as you wished");
    if status == StatusCode::TOO_MANY_REQUESTS {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    }
    Some(answer)
}

/// Whether requests from there are let in: TradingView's own pages, and loopback.
pub(super) fn is_accepted_origin(origin: &str) -> bool {
    let Ok(origin) = url::Url::parse(origin) else { return false };
    match origin.host() {
        Some(url::Host::Domain(name)) => {
            name == "localhost" || name == "tradingview.com" || name.ends_with(".tradingview.com")
        }
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn comes_from_accepted_origin(request: &Page) -> bool {
    let origin = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.is_some_and(is_accepted_origin)
}

/// A short answer in words.
pub(super) fn text(status: StatusCode, text: &str) -> Response<String> {
    with_type(status, "text/plain; charset=utf-8", text.to_owned())
}

fn html(body: String) -> Response<String> {
    with_type(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<String> {
    with_type(status, "application/json", serde_json::to_string(value).unwrap_or_default())
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A parameter of the query, decoded.
fn query(request: &Page, name: &str) -> Option<String> {
    form_value(request.uri().query().unwrap_or_default(), name)
}

/// A field of a form, decoded.
fn form_value(form: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(form.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_the_provider_and_of_loopback_are_accepted() {
        for good in [
            "https://www.tradingview.com",
            "https://www.tradingview.com/",
            "https://br.tradingview.com",
            "http://127.0.0.1:8080",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert!(is_accepted_origin(good), "{good}");
        }
        for bad in ["", "null", "https://nottradingview.com", "https://tradingview.com.evil.org"] {
            assert!(!is_accepted_origin(bad), "{bad}");
        }
    }
}
