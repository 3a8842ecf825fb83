//! How this server behaves as long as no fault says otherwise. Never changed by a request.

/// The server's settings. `Default` is widget 627 with the secret `simulator-secret`.
#[derive(Clone)]
pub struct Options {
    /// `imba_id`: the number in the path and the login of HTTP Basic. Default 627.
    pub widget: i64,
    /// The Secret key: the password of HTTP Basic and the key of JWTs. Default `simulator-secret`.
    pub secret: String,
    /// Seeds uuids, pipes, names and the probabilities of faults. Default 0.
    pub seed: u64,
    /// Whether a message moves its room's `updated_at`. Default true; nobody knows what the real
    /// server does.
    pub bump_updated_at_on_send: bool,
    /// Whether an unknown sender is refused (422). By default it is created, named after its id.
    pub known_users_only: bool,
    /// Whether every documented filter works. By default the server is as sloppy as the vendor's
    /// samples show: `room_type` 0 (falsy in PHP) and the `status` of users are ignored.
    pub honour_filters: bool,
    /// How far the server's clock is ahead of the true one, in microseconds. Default 0.
    pub clock_offset_micros: i64,
    /// Whether errors come with HTTP 200 and the number only in the body, as the vendor's plugins
    /// do it. Default false: HTTP status and body agree.
    pub errors_as_200: bool,
    /// Whether JSON is escaped as PHP does by default (`\/`, `\u00e9`). Default false, as in the
    /// vendor's samples.
    pub php_escapes: bool,
    /// The `imba_id` that rows of lists carry, where it shall differ from the widget's.
    pub listed_imba_id: Option<i64>,
    /// How long every answer takes, in microseconds. Default 0.
    pub latency_micros: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            widget: 627,
            secret: "simulator-secret".to_owned(),
            seed: 0,
            bump_updated_at_on_send: true,
            known_users_only: false,
            honour_filters: false,
            clock_offset_micros: 0,
            errors_as_200: false,
            php_escapes: false,
            listed_imba_id: None,
            latency_micros: 0,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out: these options may be printed beside a real configuration.
        f.debug_struct("Options")
            .field("widget", &self.widget)
            .field("seed", &self.seed)
            .field("bump_updated_at_on_send", &self.bump_updated_at_on_send)
            .field("known_users_only", &self.known_users_only)
            .field("honour_filters", &self.honour_filters)
            .field("clock_offset_micros", &self.clock_offset_micros)
            .field("errors_as_200", &self.errors_as_200)
            .field("php_escapes", &self.php_escapes)
            .field("listed_imba_id", &self.listed_imba_id)
            .field("latency_micros", &self.latency_micros)
            .finish_non_exhaustive()
    }
}
