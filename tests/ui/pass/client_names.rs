//! A client's name is the user's to choose, so that `Chat` and `ChatClient` can both be services.

#![deny(warnings, missing_docs, unreachable_pub, missing_debug_implementations, unused_qualifications)]
#![deny(clippy::all, clippy::pedantic)]

mod crowded {
    #[xero::service(client = ChatSession)]
    pub(crate) trait Chat {
        async fn say(&self, text: &str, client: other::ChatSession);
    }

    #[xero::service]
    pub(crate) trait ChatClient {
        async fn hear(&self, text: &str);
    }

    #[xero::service(name = "chat.Room", client = r#Room)]
    pub(crate) trait ChatRoom {
        async fn enter(&self);
    }

    pub(crate) mod other {
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) struct ChatSession;
    }
}

/// Services of one name, where the inner module imports everything around it.
mod versions {
    struct Hidden;

    #[xero::service]
    trait Chat {
        async fn say(&self, text: &str);
    }

    #[xero::service]
    pub(super) trait Shown {
        async fn say(&self, text: &str);
    }

    pub(crate) mod v2 {
        #[allow(unused_imports)]
        use super::*;

        #[xero::service]
        pub(in crate::versions) trait Chat {
            async fn say(&self, text: &str, times: u8);
        }

        pub(crate) fn client(client: &xero::Client) -> ChatClient {
            ChatClient::new(client)
        }
    }

    pub(crate) fn both(client: &xero::Client) {
        drop((Hidden, ChatClient::new(client).say("a"), v2::ChatClient::new(client).say("a", 2)));
    }
}

/// A function's service is its own.
fn in_a_function(client: &xero::Client) {
    #[xero::service]
    trait Chat {
        async fn say(&self, text: &str);
    }

    drop(ChatClient::new(client).say("a"));
}

struct Server;

#[xero::worker]
impl crowded::Chat for Server {
    async fn say(&self, _text: &str, _client: crowded::other::ChatSession) {}
}

#[xero::worker]
impl crowded::ChatClient for Server {
    async fn hear(&self, _text: &str) {}
}

#[allow(dead_code)]
async fn calls(client: &xero::Client) -> Result<(), Box<dyn std::error::Error>> {
    crowded::ChatSession::new(client).say("a", crowded::other::ChatSession).await?;
    crowded::ChatClientClient::new(client).hear("a").await?;
    crowded::Room::new(client).enter().await?;
    versions::both(client);
    drop(versions::v2::client(client));
    versions::ShownClient::new(client).say("a").await?;
    in_a_function(client);
    Ok(())
}

fn main() {
    drop(Server);
}
