//! What is asked next: a listing of all nodes, then what changes after it. Pure.

use super::{error::Failure, failures::GONE, request::Request};

/// Watches in a row without an event or a bookmark, before all nodes are listed again: the store
/// may have been replaced by an older copy, in which the position of the watch lies ahead.
const SILENT_WATCHES: u32 = 2;

/// How far the watch has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    position: Position,
    streaming: Streaming,
    /// silent watches in a row
    silent: u32,
}

#[derive(Debug, Default)]
enum Position {
    #[default]
    Unlisted,
    /// Within a listing: the token of the next page.
    Page(String),
    /// After everything up to this version.
    At(String),
}

/// Whether the server can list by a watch.
#[derive(Debug, Default, PartialEq)]
enum Streaming {
    #[default]
    Untried,
    /// The server failed: the next listing is by pages.
    Failed,
    /// The server is too old for it, or its etcd.
    Refused,
}

impl Progress {
    pub(super) fn request(&self) -> Request {
        match &self.position {
            Position::Unlisted if self.streaming == Streaming::Untried => Request::StreamingList,
            Position::Unlisted => Request::Page {
                continue_token: String::new(),
            },
            Position::Page(token) => Request::Page {
                continue_token: token.clone(),
            },
            Position::At(version) => Request::Watch {
                resource_version: version.clone(),
            },
        }
    }

    /// A page was read, and there is another one.
    pub(super) fn next_page(&mut self, continue_token: String) {
        self.position = Position::Page(continue_token);
    }

    /// A listing has come to its end.
    pub(super) fn listed(&mut self, resource_version: String) {
        self.position = Position::At(resource_version);
        self.silent = 0;
        if self.streaming == Streaming::Failed {
            self.streaming = Streaming::Untried;
        }
    }

    /// True after a whole listing, when changes are watched.
    pub(super) fn is_listed(&self) -> bool {
        matches!(self.position, Position::At(_))
    }

    /// An event, or a bookmark, of the watch was read.
    pub(super) fn advance(&mut self, resource_version: &str) {
        self.silent = 0;
        if let Position::At(version) = &mut self.position
            && !resource_version.is_empty()
        {
            resource_version.clone_into(version);
        }
    }

    /// A watch came to its regular end, with nothing read.
    pub(super) fn silent(&mut self) {
        self.silent += 1;
        if self.silent >= SILENT_WATCHES {
            self.position = Position::Unlisted;
        }
    }

    /// A request failed. True if the next one need not wait, since it is of another kind.
    pub(super) fn failed(&mut self, request: &Request, failure: &Failure) -> bool {
        match (failure, failure.code()) {
            (_, Some(401 | 403 | 429)) => {}
            // the position is too old, or the token of the next page
            (_, Some(GONE)) => self.position = Position::Unlisted,
            (Failure::Silent { .. } | Failure::Slow { .. }, _) => self.silent(),
            _ => {}
        }
        if *request != Request::StreamingList || self.is_listed() {
            return false;
        }
        match (failure, failure.code()) {
            // "sendInitialEvents is forbidden", or an unknown parameter
            (_, Some(400 | 422)) => self.streaming = Streaming::Refused,
            // 500: "the required storage feature RequestWatchProgress is disabled"
            (_, Some(404 | 405 | 500)) | (Failure::Silent { .. } | Failure::Slow { .. }, _) => {
                self.streaming = Streaming::Failed;
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnet::kube::protobuf::Status;
    use std::time::Duration;

    fn status(request: &Request, code: u16) -> Failure {
        let status = Status {
            code,
            ..Status::default()
        };
        Failure::of_status(request.access(), status, None)
    }

    fn silent() -> Failure {
        Failure::Silent {
            path: String::new(),
            timeout: Duration::ZERO,
        }
    }

    fn page(token: &str) -> Request {
        Request::Page {
            continue_token: token.to_owned(),
        }
    }

    fn watch(version: &str) -> Request {
        Request::Watch {
            resource_version: version.to_owned(),
        }
    }

    /// The request after a failure, and whether it follows at once.
    fn fail(progress: &mut Progress, failure: impl FnOnce(&Request) -> Failure) -> (Request, bool) {
        let request = progress.request();
        let at_once = progress.failed(&request, &failure(&request));
        (progress.request(), at_once)
    }

    #[test]
    fn streaming_list_becomes_the_watch() {
        let mut progress = Progress::default();
        assert_eq!(progress.request(), Request::StreamingList);
        progress.advance("3");
        assert!(!progress.is_listed());
        assert_eq!(progress.request(), Request::StreamingList);
        progress.listed("7".to_owned());
        assert_eq!(progress.request(), watch("7"));
        progress.advance("8");
        progress.advance("");
        assert_eq!(progress.request(), watch("8"));
    }

    #[test]
    fn server_that_refuses_the_streaming_list_is_not_asked_again() {
        for code in [400, 422] {
            let mut progress = Progress::default();
            let next = fail(&mut progress, |request| status(request, code));
            assert_eq!(next, (page(""), true));
            progress.next_page("t".to_owned());
            assert_eq!(progress.request(), page("t"));
            progress.listed("7".to_owned());
            assert_eq!(progress.request(), watch("7"));
            let next = fail(&mut progress, |request| status(request, 410));
            assert_eq!(next, (page(""), false));
        }
    }

    #[test]
    fn streaming_list_that_fails_is_tried_again_after_one_by_pages() {
        let failures: [fn(&Request) -> Failure; 2] = [|request| status(request, 500), |_| silent()];
        for failure in failures {
            let mut progress = Progress::default();
            assert_eq!(fail(&mut progress, failure), (page(""), true));
            let next = fail(&mut progress, |request| status(request, 500));
            assert_eq!(next, (page(""), false));
            progress.listed("7".to_owned());
            let next = fail(&mut progress, |request| status(request, 410));
            assert_eq!(next, (Request::StreamingList, false));
        }
    }

    #[test]
    fn what_says_nothing_about_the_request_repeats_it() {
        for code in [401, 403, 429, 502, 503, 504] {
            let mut progress = Progress::default();
            let next = fail(&mut progress, |request| status(request, code));
            assert_eq!(next, (Request::StreamingList, false));
            progress.next_page("t".to_owned());
            let next = fail(&mut progress, |request| status(request, code));
            assert_eq!(next, (page("t"), false));
            progress.listed("7".to_owned());
            let next = fail(&mut progress, |request| status(request, code));
            assert_eq!(next, (watch("7"), false));
            let next = fail(&mut progress, |_| Failure::Ended(Duration::ZERO));
            assert_eq!(next, (watch("7"), false));
        }
    }

    #[test]
    fn expired_token_starts_over() {
        let mut progress = Progress::default();
        progress.next_page("t".to_owned());
        let next = fail(&mut progress, |request| status(request, 410));
        assert_eq!(next, (Request::StreamingList, false));
    }

    #[test]
    fn watches_that_stay_silent_lead_to_a_listing() {
        let mut progress = Progress::default();
        progress.listed("7".to_owned());
        let next = fail(&mut progress, |_| silent());
        assert_eq!(next, (watch("7"), false));
        progress.advance("8");
        let next = fail(&mut progress, |_| silent());
        assert_eq!(next, (watch("8"), false));
        let next = fail(&mut progress, |_| silent());
        assert_eq!(next, (Request::StreamingList, false));
    }
}
