#![doc = include_str!("../README.md")]

pub mod api;
pub mod base_url;
pub mod client;
pub mod credentials;
pub mod error;
pub mod id;
pub mod model;
pub mod outcome;
pub mod text;
pub mod time;
pub mod transport;
pub mod wire;

pub use api::{
    Api, ApiOptions, GetRooms, GetUsers, List, ListSummary, Probe, Quarantined, RoomsAuth, SendMsg,
    Sink, TakeElements, is_senseless, repeats_itself,
};
pub use base_url::{BaseUrl, BaseUrlError};
pub use client::{HttpSettings, HttpTransport, Resolver};
pub use credentials::{Credentials, SecretKey, SecretKeyError};
pub use error::{Error, ErrorKind};
pub use id::{MessageId, RoomId, SiteUserId, UserId, WidgetId};
pub use model::{Message, Receipt, Room, RoomKind, User, UserStatus};
pub use outcome::{Advice, Class, ClassifyRules, OutcomeCode, Seen, SendOutcome, classify};
pub use text::{TextError, TextWarning, escape_foreign, validate_text};
pub use time::Timestamp;
pub use transport::{
    BodyStream, Endpoint, HeaderText, NetCode, Request, Response, Transport, TransportError,
    TransportErrorKind,
};
pub use wire::split::RawElement;
pub use wire::{DecodeError, decode_room, decode_user, id_in_broken_row};
