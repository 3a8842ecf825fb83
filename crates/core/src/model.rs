//! What ImbaChat's lists and replies tell, under clean types. Wire shapes stay in `wire`; fields
//! nobody knows are kept as they came.

mod message;
mod room;
mod user;

pub use message::{Message, Receipt};
pub use room::{Room, RoomKind};
pub use user::{User, UserStatus};
