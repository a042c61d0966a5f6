//! A client's name is the user's to choose, so that `Chat` and `ChatClient` can both be services.

#![deny(warnings)]

mod crowded {
    #[xero::service(client = ChatSession)]
    pub trait Chat {
        async fn say(&self, text: &str, client: other::ChatSession);
    }

    #[xero::service]
    pub trait ChatClient {
        async fn hear(&self, text: &str);
    }

    #[xero::service(name = "chat.Room", client = r#Room)]
    pub trait ChatRoom {
        async fn enter(&self);
    }

    pub mod other {
        #[derive(serde::Serialize, serde::Deserialize)]
        pub struct ChatSession;
    }
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
    Ok(())
}

fn main() {
    drop(Server);
}
