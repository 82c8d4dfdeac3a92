//! threadkey and the certified `oidc-provider`, feature by feature, through Discord and the command line.
//!
//! The server runs once for all tests, at an issuer with a path (`/realms/one`). Every provider section
//! has that issuer or an MCP server's address, and no endpoint: so each test is one of discovery too.
//! Each cell signs in with an account of its own. It checks the stored session with its `sub`, uses the
//! access token, refreshes by two processes at once with one rotation, and logs out with a revocation
//! (RFC 7009) that the server has seen.
//!
//! | feature | on Discord | on the command line |
//! | --- | --- | --- |
//! | code, public client, id token by ES256 | `a_public_client_signs_in_by_a_paste_on_discord`, `…_through_the_public_pages` | `a_public_client_signs_in_by_auth_start_and_auth_code`, `…_by_login` |
//! | `client_secret_basic`, id token by RS256 | `a_client_with_a_basic_secret_signs_in_by_a_paste_on_discord` | `a_client_with_a_basic_secret_signs_in_by_login` |
//! | `client_secret_post`, id token by EdDSA | `a_client_with_a_posted_secret_signs_in_through_the_public_pages` | `a_client_with_a_posted_secret_signs_in_by_auth_start_and_auth_code` |
//! | `private_key_jwt` by ES256 | `a_client_that_signs_with_es256_signs_in_through_the_public_pages` | `a_client_that_signs_with_es256_signs_in_by_login` |
//! | `private_key_jwt` by RS256 | `a_client_that_signs_with_rs256_signs_in_by_a_paste_on_discord` | `a_client_that_signs_with_rs256_signs_in_by_auth_start_and_auth_code` |
//! | `private_key_jwt` by EdDSA | `a_client_that_signs_with_eddsa_signs_in_by_a_paste_on_discord` | `a_client_that_signs_with_eddsa_signs_in_by_auth_start_and_auth_code` |
//! | device code (RFC 8628) | `a_device_code_of_a_public_client_signs_in_on_discord` | `a_device_code_of_a_public_client_signs_in_by_auth_start` |
//! | device code, `private_key_jwt`, resource | `a_device_code_with_a_signed_request_for_a_resource_signs_in_on_discord` | `a_device_code_with_a_signed_request_for_a_resource_signs_in_by_auth_start` |
//! | CIBA | `ciba_of_a_client_with_a_secret_signs_in_on_discord` | `ciba_of_a_client_with_a_secret_signs_in_by_auth_start` |
//! | CIBA, `private_key_jwt` | `ciba_of_a_client_with_a_key_signs_in_on_discord` | `ciba_of_a_client_with_a_key_signs_in_by_auth_start` |
//! | registration (RFC 7591) | `a_registered_client_signs_in_by_a_paste_on_discord`, `…_through_the_public_pages` | `a_registered_client_signs_in_by_auth_start_and_auth_code`, `…_by_login` |
//! | client id metadata document | `a_client_with_a_metadata_document_signs_in_through_the_public_pages` | (a command has no public address) |
//! | registration by processes at once, and a lost client | | `processes_that_register_at_once_use_the_client_of_one`, `a_registered_client_that_the_server_lost_is_replaced_at_the_next_sign_in` |
//! | resource indicators (RFC 8707) | `a_token_for_a_resource_alone_comes_by_a_paste_on_discord` | `a_token_for_a_resource_alone_comes_by_login`, `the_userinfo_endpoint_decides_nothing_about_a_token_for_a_resource` |
//! | `iss` in the answer (RFC 9207) | `a_paste_on_discord_of_no_or_another_issuer_is_refused_and_the_right_one_taken`, `our_pages_end_a_sign_in_whose_answer_is_of_no_or_another_issuer` | `auth_code_refuses_an_answer_of_no_or_another_issuer_and_takes_the_right_one`, and for `login`: `an_answer_of_another_issuer_is_refused_and_nothing_is_sent` |
//! | denial, wrong browser, second use | `a_denial_on_the_servers_pages_ends_the_sign_in_on_our_page_and_on_discord`, `our_pages_refuse_a_wrong_browser_and_a_second_use_of_the_servers_answer` | `login::a_denial_is_shown_at_once_and_ends_the_sign_in` |
//! | new keys of the server (JWKS) | `published_keys_that_change_are_followed_by_a_running_bot_and_the_command_line`, `a_running_bot_follows_a_rotation_of_the_providers_keys` | the first one, `the_command_line_proves_the_account_by_the_providers_keys_across_a_rotation` |
//! | token exchange (RFC 8693) | `a_worker_on_discord_gets_a_token_by_exchange_for_its_owner` | `the_command_line_exchanges_a_token_for_one_that_opens_the_resource` |
//! | discovery by two processes at once; `doctor` | `two_processes_discover_one_issuer_at_once_and_doctor_refreshes_it` | the same one, `a_path_issuer_alone_signs_in_by_the_command_line` |

mod answers;
mod cells;
mod discovery;
mod hand_out;
mod registration;
mod rows;
mod session;
mod ways;
