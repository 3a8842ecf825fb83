//! (being built)
pub mod id;
pub mod model;
pub mod time;

pub use id::{MessageId, RoomId, SiteUserId, UserId, WidgetId};
pub use model::{Message, Receipt, Room, RoomKind, User, UserStatus};
pub use time::Timestamp;
