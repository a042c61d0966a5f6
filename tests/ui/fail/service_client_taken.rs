//! One error for each name that is taken, whatever has it, and none about what is generated for it.

mod chosen_twice {
    #[xero::service(client = Session)]
    pub trait Chat {
        async fn say(&self, text: &str) -> u32;
    }

    #[xero::service(client = Session)]
    pub trait Room {
        async fn enter(&self);
        async fn say(&self, text: &str, times: u8) -> u64;
    }
}

mod trait_of_that_name {
    #[xero::service]
    pub trait Chat {
        async fn say(&self, text: &str);
    }

    #[xero::service]
    pub trait ChatClient {
        async fn say(&self, text: &str);
    }
}

mod struct_of_that_name {
    #[derive(Clone, Debug)]
    pub struct ChatClient {
        pub stub: u8,
    }

    impl ChatClient {
        pub fn new(stub: u8) -> Self {
            Self { stub }
        }
    }

    #[xero::service]
    pub trait Chat {
        async fn say(&self, text: &str);
    }
}

mod import_of_that_name {
    use crate::struct_of_that_name::ChatClient;

    #[xero::service]
    pub trait Chat {
        async fn say(&self, text: &str);
    }

    pub fn stub() -> u8 {
        ChatClient::new(1).stub
    }
}

fn in_a_function() {
    enum ChatClient {}

    #[xero::service]
    trait Chat {
        async fn say(&self, text: &str);
    }
}

/// What is wrong with the second trait is said beside its client's name.
mod with_another_mistake {
    #[xero::service]
    pub trait Chat {
        async fn say(&self, text: &str);
    }

    #[xero::service(client = ChatClient)]
    pub trait Room {
        fn enter(&self);
    }
}

struct Server;

#[xero::worker]
impl chosen_twice::Chat for Server {
    async fn say(&self, _text: &str) -> u32 {
        1
    }
}

#[xero::worker]
impl chosen_twice::Room for Server {
    async fn enter(&self) {}

    async fn say(&self, _text: &str, _times: u8) -> u64 {
        1
    }
}

fn main() {
    in_a_function();
    drop(import_of_that_name::stub);
    drop(|client: &xero::Client| trait_of_that_name::ChatClientClient::new(client).say("a"));
}
