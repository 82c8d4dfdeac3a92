//! The cells of the table: each signs in, refreshes once by two processes, and logs out.

use super::{
    rows::{
        BASIC, CIBA, CIBA_WITH_KEY, DEVICE, DEVICE_FOR_RESOURCE, DOCUMENT, EDDSA, ES256, POST, PUBLIC,
        REGISTERED, RESOURCE, RS256,
    },
    ways::{
        by_auth, by_ciba_in_a_terminal, by_ciba_on_discord, by_device_in_a_terminal, by_device_on_discord,
        by_document, by_login, by_pages, by_paste,
    },
};

#[tokio::test]
async fn a_public_client_signs_in_by_a_paste_on_discord() {
    by_paste(&PUBLIC).await;
}

#[tokio::test]
async fn a_public_client_signs_in_through_the_public_pages() {
    by_pages(&PUBLIC).await;
}

#[tokio::test]
async fn a_public_client_signs_in_by_auth_start_and_auth_code() {
    by_auth(&PUBLIC).await;
}

#[tokio::test]
async fn a_public_client_signs_in_by_login() {
    by_login(&PUBLIC).await;
}

#[tokio::test]
async fn a_client_with_a_basic_secret_signs_in_by_a_paste_on_discord() {
    by_paste(&BASIC).await;
}

#[tokio::test]
async fn a_client_with_a_basic_secret_signs_in_by_login() {
    by_login(&BASIC).await;
}

#[tokio::test]
async fn a_client_with_a_posted_secret_signs_in_through_the_public_pages() {
    by_pages(&POST).await;
}

#[tokio::test]
async fn a_client_with_a_posted_secret_signs_in_by_auth_start_and_auth_code() {
    by_auth(&POST).await;
}

#[tokio::test]
async fn a_client_that_signs_with_es256_signs_in_through_the_public_pages() {
    by_pages(&ES256).await;
}

#[tokio::test]
async fn a_client_that_signs_with_es256_signs_in_by_login() {
    by_login(&ES256).await;
}

#[tokio::test]
async fn a_client_that_signs_with_rs256_signs_in_by_a_paste_on_discord() {
    by_paste(&RS256).await;
}

#[tokio::test]
async fn a_client_that_signs_with_rs256_signs_in_by_auth_start_and_auth_code() {
    by_auth(&RS256).await;
}

#[tokio::test]
async fn a_client_that_signs_with_eddsa_signs_in_by_a_paste_on_discord() {
    by_paste(&EDDSA).await;
}

#[tokio::test]
async fn a_client_that_signs_with_eddsa_signs_in_by_auth_start_and_auth_code() {
    by_auth(&EDDSA).await;
}

#[tokio::test]
async fn a_token_for_a_resource_alone_comes_by_a_paste_on_discord() {
    by_paste(&RESOURCE).await;
}

#[tokio::test]
async fn a_token_for_a_resource_alone_comes_by_login() {
    by_login(&RESOURCE).await;
}

#[tokio::test]
async fn a_registered_client_signs_in_by_a_paste_on_discord() {
    by_paste(&REGISTERED).await;
}

#[tokio::test]
async fn a_registered_client_signs_in_through_the_public_pages() {
    by_pages(&REGISTERED).await;
}

#[tokio::test]
async fn a_client_with_a_metadata_document_signs_in_through_the_public_pages() {
    by_document(&DOCUMENT).await;
}

#[tokio::test]
async fn a_registered_client_signs_in_by_auth_start_and_auth_code() {
    by_auth(&REGISTERED).await;
}

#[tokio::test]
async fn a_registered_client_signs_in_by_login() {
    by_login(&REGISTERED).await;
}

#[tokio::test]
async fn a_device_code_of_a_public_client_signs_in_on_discord() {
    by_device_on_discord(&DEVICE).await;
}

#[tokio::test]
async fn a_device_code_of_a_public_client_signs_in_by_auth_start() {
    by_device_in_a_terminal(&DEVICE).await;
}

#[tokio::test]
async fn a_device_code_with_a_signed_request_for_a_resource_signs_in_on_discord() {
    by_device_on_discord(&DEVICE_FOR_RESOURCE).await;
}

#[tokio::test]
async fn a_device_code_with_a_signed_request_for_a_resource_signs_in_by_auth_start() {
    by_device_in_a_terminal(&DEVICE_FOR_RESOURCE).await;
}

#[tokio::test]
async fn ciba_of_a_client_with_a_secret_signs_in_on_discord() {
    by_ciba_on_discord(&CIBA).await;
}

#[tokio::test]
async fn ciba_of_a_client_with_a_secret_signs_in_by_auth_start() {
    by_ciba_in_a_terminal(&CIBA).await;
}

#[tokio::test]
async fn ciba_of_a_client_with_a_key_signs_in_on_discord() {
    by_ciba_on_discord(&CIBA_WITH_KEY).await;
}

#[tokio::test]
async fn ciba_of_a_client_with_a_key_signs_in_by_auth_start() {
    by_ciba_in_a_terminal(&CIBA_WITH_KEY).await;
}
