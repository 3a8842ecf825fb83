//! Users, and how they join. Two ids each: ImbaChat's own, and the one of the site they come from.

use crate::change::Change;
use crate::simulator::{Simulator, State};

/// A user as the server stores it. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// ImbaChat's id.
    pub id: i64,
    /// `remote_user_id`: the site's id, which `send_msg` takes.
    pub site_user_id: String,
    /// What people see; the lists never tell it.
    pub name: String,
    /// `login`; the text `NULL` for users of a site.
    pub login: String,
    /// `user` or `admin`.
    pub status: String,
    /// Where the picture is.
    pub avatar_url: Option<String>,
    /// Whether `send_msg` is refused (403).
    pub banned: bool,
    /// When it joined.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
    /// When it was removed.
    pub deleted_at: Option<i64>,
}

impl Simulator {
    /// Lets a user of the site join and returns ImbaChat's id of it; one that is there already
    /// gets the new name.
    #[expect(clippy::needless_pass_by_value, reason = "takes 1 as well as \"1\"")]
    pub fn join(&self, name: &str, site_user_id: impl ToString) -> i64 {
        let now = self.now_micros();
        self.state().join(name, &site_user_id.to_string(), "user", now)
    }

    /// Bans a user of the site, or lets it speak again. An unknown one joins.
    #[expect(clippy::needless_pass_by_value, reason = "takes 1 as well as \"1\"")]
    pub fn set_banned(&self, site_user_id: impl ToString, banned: bool) {
        self.change_user(&site_user_id.to_string(), |user| user.banned = banned);
    }

    /// Makes a user of the site an `admin` or a `user`. An unknown one joins.
    #[expect(clippy::needless_pass_by_value, reason = "takes 1 as well as \"1\"")]
    pub fn set_user_status(&self, site_user_id: impl ToString, status: &str) {
        self.change_user(&site_user_id.to_string(), |user| status.clone_into(&mut user.status));
    }

    /// Removes a user of the site: it stays in the lists with a `deleted_at`. An unknown one joins
    /// and leaves.
    #[expect(clippy::needless_pass_by_value, reason = "takes 1 as well as \"1\"")]
    pub fn remove_user(&self, site_user_id: impl ToString) {
        let now = self.server_time();
        self.change_user(&site_user_id.to_string(), |user| user.deleted_at = Some(now));
    }

    /// All users by ascending id.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        self.state().users.values().cloned().collect()
    }

    fn change_user(&self, site_user_id: &str, change: impl FnOnce(&mut User)) {
        let now = self.now_micros();
        let mut state = self.state();
        let mut user = state.user_or_join(site_user_id, now);
        change(&mut user);
        user.updated_at = state.server_time(now);
        state.users.insert(user.id, user.clone());
        state.announce(Change::UserChanged(user));
    }
}

impl State {
    pub(crate) fn join(
        &mut self,
        name: &str,
        site_user_id: &str,
        status: &str,
        now_micros: i64,
    ) -> i64 {
        let server_time = self.server_time(now_micros);
        if let Some(user) = self.user_of_site_mut(site_user_id) {
            if user.name != name {
                name.clone_into(&mut user.name);
                user.updated_at = server_time;
                let user = user.clone();
                self.announce(Change::UserChanged(user));
            }
            return self.by_site_id[site_user_id];
        }
        let id = self.next_user;
        self.next_user += 1;
        let user = User {
            id,
            site_user_id: site_user_id.to_owned(),
            name: name.to_owned(),
            login: "NULL".to_owned(),
            status: status.to_owned(),
            avatar_url: None,
            banned: false,
            created_at: server_time,
            updated_at: server_time,
            deleted_at: None,
        };
        self.by_site_id.insert(site_user_id.to_owned(), id);
        self.users.insert(id, user.clone());
        self.announce(Change::UserJoined(user));
        id
    }

    pub(crate) fn user_of_site(&self, site_user_id: &str) -> Option<&User> {
        self.by_site_id.get(site_user_id).and_then(|id| self.users.get(id))
    }

    /// The user of the site; an unknown one joins, named after its id.
    pub(crate) fn user_or_join(&mut self, site_user_id: &str, now_micros: i64) -> User {
        if let Some(user) = self.user_of_site(site_user_id) {
            return user.clone();
        }
        let id = self.join(&format!("user {site_user_id}"), site_user_id, "user", now_micros);
        self.users[&id].clone()
    }

    fn user_of_site_mut(&mut self, site_user_id: &str) -> Option<&mut User> {
        let id = self.by_site_id.get(site_user_id)?;
        self.users.get_mut(id)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::simulator;

    #[test]
    fn a_user_who_joins_twice_is_one_user() {
        let simulator = simulator();
        let first = simulator.join("spray", 1);
        assert_eq!(first, 2046);
        assert_eq!(simulator.join("sprayed", "1"), first);
        assert_eq!(simulator.users().len(), 1);
        assert_eq!(simulator.users()[0].name, "sprayed");
    }

    #[test]
    fn a_removed_user_keeps_its_ids() {
        let simulator = simulator();
        simulator.join("spray", 1);
        simulator.remove_user(1);
        let user = &simulator.users()[0];
        assert_eq!((user.id, user.site_user_id.as_str()), (2046, "1"));
        assert!(user.deleted_at.is_some());
    }
}
