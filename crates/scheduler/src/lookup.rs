//! What a running handler may look up: rooms of the last committed snapshot and the bot's own
//! memory, straight from the store. Reads only.

use std::sync::Arc;

use async_trait::async_trait;
use imbabot_bot::{BotName, MemoryReader, Result, RoomDirectory, RoomSelector, WidgetName};
use imbabot_core::{Room, RoomId};
use imbabot_store::Store;

/// The store as handlers see it.
pub(crate) struct Lookup(pub(crate) Arc<dyn Store>);

#[async_trait]
impl RoomDirectory for Lookup {
    async fn room(&self, widget: &WidgetName, id: RoomId) -> Result<Option<Room>> {
        Ok(self.0.rooms_by_id(widget, &[id]).await?.pop())
    }

    async fn rooms(&self, widget: &WidgetName, selector: &RoomSelector) -> Result<Vec<Room>> {
        Ok(self.0.select_rooms(widget, selector).await?)
    }
}

#[async_trait]
impl MemoryReader for Lookup {
    async fn remembered(
        &self,
        bot: &BotName,
        widget: &WidgetName,
        key: &str,
    ) -> Result<Option<(serde_json::Value, i64)>> {
        Ok(self.0.remembered(bot, widget, key).await?)
    }
}
