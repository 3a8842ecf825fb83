//! From a checked configuration to what the engine is to do: clients, bots, announcements. Opens
//! no connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::WidgetName;
use imbabot_core::{Api, ApiOptions, ClassifyRules, Credentials, HttpSettings, HttpTransport};
use imbabot_scheduler::{
    Announcement, BotSettings, DeliverySettings, PollSettings, Rate, Settings, WidgetSettings,
};
use imbabot_store::{SendLimits, Settle};

use crate::config::{Bodies, Config, RoomsAuth, Widget};
use crate::exit::{Exit, Failure};
use crate::registry::Registry;

/// What the engine is to do by this configuration.
pub(crate) fn settings(config: &Config, registry: &Registry) -> Result<Settings, Failure> {
    settings_with(config, registry, |widget| api(config, widget))
}

/// The same, with another way to the widgets.
pub(crate) fn settings_with(
    config: &Config,
    registry: &Registry,
    mut api: impl FnMut(&Widget) -> Result<Api, Failure>,
) -> Result<Settings, Failure> {
    let mut settings = Settings::new();
    for widget in &config.widgets {
        settings.widgets.push(WidgetSettings {
            name: widget.name.clone(),
            api: api(widget)?,
            sender: widget.sender.clone(),
            rooms_by_jwt: widget.rooms_auth == RoomsAuth::Jwt,
            markup: widget.foreign_markup,
        });
    }
    for bot in &config.bots {
        let made = registry.make(&bot.kind, &bot.settings).map_err(|error| {
            Failure::new(Exit::Config, "IMB-C-BOT", format!("the bot {}: {error}", bot.name))
        })?;
        let made = BotSettings::new(bot.name.clone(), made);
        if let Some(flaw) = &made.flaw {
            let message = format!("the bot {} panicked: {flaw}", bot.name);
            return Err(Failure::new(Exit::Config, "IMB-C-BOT", message));
        }
        settings.bots.push(BotSettings {
            rooms: bot.rooms.clone(),
            widgets: some(&bot.widgets),
            sender: bot.sender.clone(),
            policy: bot.policy,
            timeout: bot.timeout,
            concurrency: bot.concurrency,
            ..made
        });
    }
    for schedule in &config.schedules {
        settings.announcements.push(Arc::new(Announcement {
            schedule: schedule.schedule.clone(),
            rooms: schedule.rooms.clone(),
            text: schedule.template.clone(),
            widgets: some(&schedule.widgets),
            sender: schedule.sender.clone(),
            policy: schedule.policy,
            enabled: schedule.enabled,
        }));
    }
    settings.poll = PollSettings {
        rooms: config.poll.rooms,
        users: config.poll.users,
        quiet_max: config.poll.quiet_max,
        gone_after: config.poll.gone_after,
        baseline: config.poll.baseline,
    };
    settings.spool = config.store.file().and_then(Path::parent).map(Into::into);
    let delivery = &config.delivery;
    settings.delivery = DeliverySettings {
        policy: delivery.policy,
        expires_after: delivery.expires_after,
        rate: delivery.rate,
        rate_per_room: delivery.rate_per_room,
        concurrency: delivery.concurrency,
        timeout: delivery.timeout,
        backoff: (delivery.backoff.min, delivery.backoff.max),
        settle: Settle {
            wait: delivery.settle,
            max_resends: delivery.max_ambiguous_resends,
            unresolved_after: delivery.unresolved_after,
        },
        max_text: delivery.max_text,
    };
    let window = |rate: Rate| -> (u32, Duration) { (rate.count(), rate.per()) };
    settings.limits = SendLimits {
        per_event: usize::try_from(config.limits.per_event).unwrap_or(usize::MAX),
        per_bot: window(config.limits.per_bot),
        per_bot_and_room: window(config.limits.per_bot_and_room),
    };
    settings.retention = config.store.retention;
    Ok(settings)
}

/// The API of one widget.
pub(crate) fn api(config: &Config, widget: &Widget) -> Result<Api, Failure> {
    let mut http = HttpSettings::new(widget.base_url.clone());
    http.connect_timeout = config.delivery.connect_timeout;
    http.send_timeout = config.delivery.timeout;
    http.poll_read_timeout = config.poll.timeout;
    http.max_body = config.poll.max_body;
    http.pool_size = config.delivery.concurrency;
    if let Some(path) = &widget.ca_file {
        let pem = std::fs::read(path).map_err(|e| {
            let message = format!("ca_file {} cannot be read: {}", path.display(), e.kind());
            Failure::new(Exit::Config, "IMB-C-CA", message)
        })?;
        http.ca_pem = Some(pem);
    }
    let transport = HttpTransport::new(http).map_err(|error| {
        Failure::new(Exit::Config, "IMB-C-CLIENT", format!("the widget {}: {error}", widget.name))
    })?;
    let credentials = Credentials::new(widget.id, widget.secret.clone());
    Ok(Api::new(Arc::new(transport), credentials).with_options(api_options(config)))
}

/// How answers are read.
pub(crate) fn api_options(config: &Config) -> ApiOptions {
    let mut options = ApiOptions::default();
    options.rules =
        ClassifyRules { not_applied_statuses: config.delivery.not_applied_statuses.clone() };
    options.max_list = config.poll.max_body;
    options
}

pub(crate) fn bodies(config: &Config) -> imbabot_store::Bodies {
    match config.store.bodies {
        Bodies::Full => imbabot_store::Bodies::Full,
        Bodies::Hash => imbabot_store::Bodies::Hash,
    }
}

fn some(names: &[WidgetName]) -> Option<Vec<WidgetName>> {
    (!names.is_empty()).then(|| names.to_vec())
}
