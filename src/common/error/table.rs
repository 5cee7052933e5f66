//! Every reason a call can fail with: the contract's error table, once.

/// The status of a failed call: the codes of gRPC that we use, without naming gRPC's library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusCode {
    /// The caller went away.
    Cancelled,
    /// The request can never succeed as sent.
    InvalidArgument,
    /// The caller's time ran out.
    DeadlineExceeded,
    /// The thing asked for does not exist.
    NotFound,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit was reached.
    ResourceExhausted,
    /// Something else must be done first.
    FailedPrecondition,
    /// The same work is under way.
    Aborted,
    /// Past an end.
    OutOfRange,
    /// No such method.
    Unimplemented,
    /// Our bug.
    Internal,
    /// Something is away; try again.
    Unavailable,
    /// The caller must say who they are.
    Unauthenticated,
}

impl StatusCode {
    /// Its name as gRPC writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Declares [`ErrorCode`]: variant, reason, status, what comes with it, what it means.
macro_rules! error_codes {
    ($($variant:ident $reason:literal $status:ident $details:literal $meaning:literal;)+) => {
        /// The reason a call failed: a decision that its caller can make.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $variant,)+
        }

        impl ErrorCode {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in `google.rpc.ErrorInfo`.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason),+ }
            }

            /// The status that it ends a call with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// What the status carries besides `ErrorInfo`, in words; empty when nothing.
            pub const fn details(self) -> &'static str {
                match self { $(Self::$variant => $details),+ }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

error_codes! {
    InvalidFields "INVALID_FIELDS" InvalidArgument "BadRequest with every violation at once"
        "Fields of the request (or its metadata) are wrong.";
    SymbolNotFound "SYMBOL_NOT_FOUND" NotFound
        "ResourceInfo; metadata `suggestions` where the provider has some"
        "The provider does not know the symbol.";
    SymbolUnknown "SYMBOL_UNKNOWN" NotFound "ResourceInfo"
        "The symbol is not known here; a first sync makes it known.";
    SymbolBusy "SYMBOL_BUSY" Aborted "RetryInfo, ResourceInfo; metadata `remedy`"
        "A sync of the symbol is under way; it can be deleted once that is over.";
    SymbolFollowed "SYMBOL_FOLLOWED" FailedPrecondition "ResourceInfo; metadata `remedy`"
        "The feed of another process follows the symbol, and would go on to write its bars.";
    NotSynced "NOT_SYNCED" NotFound "metadata `call`, `symbol`, `interval`: what would fetch it"
        "The series was never synced.";
    NotSubscribed "NOT_SUBSCRIBED" NotFound "metadata `remedy`"
        "Nobody subscribed to the symbol.";
    NoQuote "NO_QUOTE" NotFound "metadata `remedy`"
        "The symbol has no quote yet.";
    NoFormingBar "NO_FORMING_BAR" NotFound "metadata `remedy`"
        "The series has no bar that is forming.";
    SyncNotFound "SYNC_NOT_FOUND" NotFound "ResourceInfo"
        "There is no sync of that id, or it ended too long ago.";
    JobNotFound "JOB_NOT_FOUND" NotFound "ResourceInfo"
        "There is no job of that id.";
    WebhookNotFound "WEBHOOK_NOT_FOUND" NotFound "ResourceInfo"
        "There is no webhook of that id.";
    WebhookLimit "WEBHOOK_LIMIT" FailedPrecondition ""
        "There are as many webhooks as there may be; delete one first.";
    PageTokenInvalid "PAGE_TOKEN_INVALID" InvalidArgument ""
        "The page token is not one of ours, or belongs to another query.";
    CursorExpired "CURSOR_EXPIRED" OutOfRange "metadata `earliest_cursor`"
        "The cursor is older than what is kept.";
    RateLimited "RATE_LIMITED" ResourceExhausted "RetryInfo, QuotaFailure"
        "Too many calls.";
    StreamLimit "STREAM_LIMIT" ResourceExhausted "RetryInfo, QuotaFailure"
        "Too many streams are open.";
    SlowConsumer "SLOW_CONSUMER" ResourceExhausted "metadata `cursor`"
        "The subscriber did not read for too long.";
    Overloaded "OVERLOADED" Unavailable "RetryInfo"
        "The server has more calls in flight than it takes.";
    DeadlineExceeded "DEADLINE_EXCEEDED" DeadlineExceeded ""
        "The call's deadline passed; work that it started may go on.";
    Cancelled "CANCELLED" Cancelled ""
        "The caller went away or gave up.";
    MethodUnknown "METHOD_UNKNOWN" Unimplemented ""
        "There is no such service or method, or it is not spoken this way.";
    MessageTooLarge "MESSAGE_TOO_LARGE" OutOfRange ""
        "A message is larger than is taken or sent.";
    IdempotencyKeyReused "IDEMPOTENCY_KEY_REUSED" FailedPrecondition ""
        "The idempotency key was used with another request.";
    IdempotencyInProgress "IDEMPOTENCY_IN_PROGRESS" Aborted "RetryInfo"
        "The first call with this idempotency key still runs.";
    ProviderUnavailable "PROVIDER_UNAVAILABLE" Unavailable
        "RetryInfo; metadata `provider`, `phase` (connect, tls, handshake, hello, login, history, quotes, search)"
        "The provider cannot be reached, refuses, or breaks off; what is already written stays.";
    ProviderTimeout "PROVIDER_TIMEOUT" Unavailable "RetryInfo; metadata `provider`, `phase`"
        "The provider went silent; what is already written stays.";
    ProviderAuthRequired "PROVIDER_AUTH_REQUIRED" FailedPrecondition
        "metadata `provider`, `remedy`: what to provide"
        "The provider refuses the log-in or the token.";
    ProviderNotEntitled "PROVIDER_NOT_ENTITLED" FailedPrecondition
        "metadata `provider`, `group`"
        "The provider account's plan lacks this.";
    ProviderRateLimited "PROVIDER_RATE_LIMITED" ResourceExhausted
        "RetryInfo; metadata `provider`, `scope` = upstream"
        "The provider says that we ask too much.";
    ProviderNoData "PROVIDER_NO_DATA" NotFound "metadata `provider`"
        "The provider answered, and had nothing.";
    DatabaseUnavailable "DATABASE_UNAVAILABLE" Unavailable "RetryInfo"
        "The database is away.";
    CacheUnavailable "CACHE_UNAVAILABLE" Unavailable "RetryInfo"
        "The cache is away, and the call cannot do without it.";
    Draining "DRAINING" Unavailable "RetryInfo"
        "The server is stopping.";
    Unauthenticated "UNAUTHENTICATED" Unauthenticated ""
        "The caller must say who they are.";
    PermissionDenied "PERMISSION_DENIED" PermissionDenied "metadata `scope`: what is required"
        "The caller may not do this.";
    Internal "INTERNAL" Internal "metadata `correlation_id`"
        "A bug of ours: the correlation id finds the cause in the server's log.";
}

impl ErrorCode {
    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn is_transient(self) -> bool {
        match self.status() {
            StatusCode::Unavailable
            | StatusCode::ResourceExhausted
            | StatusCode::Aborted
            | StatusCode::DeadlineExceeded => true,
            StatusCode::Cancelled
            | StatusCode::InvalidArgument
            | StatusCode::NotFound
            | StatusCode::PermissionDenied
            | StatusCode::FailedPrecondition
            | StatusCode::OutOfRange
            | StatusCode::Unimplemented
            | StatusCode::Internal
            | StatusCode::Unauthenticated => false,
        }
    }
}

/// The error table of the documentation (`docs/errors.md`), printed from [`ErrorCode::ALL`].
pub fn error_table() -> String {
    let mut table =
        String::from("| reason | code | meaning | further details |\n|---|---|---|---|\n");
    for code in ErrorCode::ALL {
        let status = code.status().as_str();
        let row = [&format!("`{}`", code.reason()), status, code.meaning(), code.details()];
        table.push_str(&format!("| {} |\n", row.join(" | ")).replace("|  |", "| |"));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reasons_are_unique_and_spelled_as_the_contract_has_them() {
        let reasons: HashSet<&str> = ErrorCode::ALL.iter().map(|code| code.reason()).collect();
        assert_eq!(reasons.len(), ErrorCode::ALL.len());
        for reason in reasons {
            assert!(reason.chars().all(|c| c == '_' || c.is_ascii_uppercase()), "{reason}");
        }
    }

    #[test]
    fn what_is_away_may_come_back_and_what_is_wrong_stays_wrong() {
        assert!(ErrorCode::ProviderTimeout.is_transient());
        assert!(ErrorCode::RateLimited.is_transient());
        assert!(!ErrorCode::InvalidFields.is_transient());
        assert!(!ErrorCode::ProviderAuthRequired.is_transient());
    }
}
