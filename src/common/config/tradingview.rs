//! Where the provider is, and who we are there.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::error::Mistake;
use super::parse::{self, Reader};
use super::table as t;

/// Where TradingView is, and who we are there.
#[derive(Clone, Debug)]
pub struct TradingViewSettings {
    /// The data socket: `ws` or `wss`.
    pub ws_url: Url,
    /// The web site: `http` or `https`.
    pub http_url: Url,
    /// The symbol directory, where it is not where it usually is: `http` or `https`.
    pub search_url: Option<Url>,
    /// PEM certificates to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Who we are.
    pub auth: TradingViewAuth,
}

/// Who we are at TradingView.
#[derive(Clone, Debug)]
pub enum TradingViewAuth {
    /// Nobody.
    Anonymous,
    /// Whoever the token was made for.
    Token(SecretString),
    /// Whoever logged in in a browser.
    Session {
        /// The cookie `sessionid`.
        id: SecretString,
        /// The cookie `sessionid_sign`.
        sign: Option<SecretString>,
    },
    /// A user and a password.
    Password {
        /// The user's name.
        username: SecretString,
        /// The password.
        password: SecretString,
    },
}

pub(super) fn tradingview(reader: &mut Reader<'_>) -> Option<TradingViewSettings> {
    let ws_url = reader.read(&t::TRADINGVIEW_WS_URL, parse::plain_url(&["ws", "wss"]));
    let http_url = reader.read(&t::TRADINGVIEW_HTTP_URL, parse::plain_url(&["http", "https"]));
    let search_url = reader.read(&t::TRADINGVIEW_SEARCH_URL, parse::plain_url(&["http", "https"]));
    let ca_file = reader.read(&t::TRADINGVIEW_CA_FILE, parse::readable_file);
    let auth = tradingview_auth(reader);
    let (ws_url, http_url, auth) = (ws_url?, http_url?, auth?);
    // A simulator serves all of it in one place.
    let search_url = search_url.or_else(|| (!is_tradingview(&http_url)).then(|| http_url.clone()));
    Some(TradingViewSettings { ws_url, http_url, search_url, ca_file, auth })
}

fn is_tradingview(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "tradingview.com" || host.ends_with(".tradingview.com")
}

fn tradingview_auth(reader: &mut Reader<'_>) -> Option<TradingViewAuth> {
    let token = reader.secret(&t::TRADINGVIEW_AUTH_TOKEN);
    let session = reader.secret(&t::TRADINGVIEW_SESSIONID);
    let sign = reader.secret(&t::TRADINGVIEW_SESSIONID_SIGN);
    let username = reader.secret(&t::TRADINGVIEW_USERNAME);
    let password = reader.secret(&t::TRADINGVIEW_PASSWORD);
    match (token, session, sign, username, password) {
        (None, None, None, None, None) => Some(TradingViewAuth::Anonymous),
        (Some(token), None, None, None, None) => Some(TradingViewAuth::Token(token)),
        (None, Some(id), sign, None, None) => Some(TradingViewAuth::Session { id, sign }),
        (None, None, None, Some(username), Some(password)) => {
            Some(TradingViewAuth::Password { username, password })
        }
        (token, session, sign, username, password) => {
            let ways = [
                (t::TRADINGVIEW_AUTH_TOKEN, token.is_some()),
                (t::TRADINGVIEW_SESSIONID, session.is_some()),
                (t::TRADINGVIEW_USERNAME, username.is_some()),
            ];
            let given: Vec<_> = ways.iter().filter(|way| way.1).map(|way| way.0).collect();
            if let [_, others @ ..] = given.as_slice() {
                for other in others {
                    reader
                        .note(Mistake::new(other, "it is another way to log in besides the first"));
                }
            }
            let alone = [
                (
                    t::TRADINGVIEW_SESSIONID_SIGN,
                    sign.is_some(),
                    session.is_some(),
                    "TRADINGVIEW_SESSIONID",
                ),
                (
                    t::TRADINGVIEW_USERNAME,
                    username.is_some(),
                    password.is_some(),
                    "TRADINGVIEW_PASSWORD",
                ),
                (
                    t::TRADINGVIEW_PASSWORD,
                    password.is_some(),
                    username.is_some(),
                    "TRADINGVIEW_USERNAME",
                ),
            ];
            for (setting, _, _, missing) in alone.iter().filter(|each| each.1 && !each.2) {
                reader.note(Mistake::new(setting, &format!("it is given without {missing}")));
            }
            None
        }
    }
}
