// The clients of every kind, and the keys of those that sign assertions (RFC 7523 §2.2).

import * as crypto from 'node:crypto';

const CODE = ['authorization_code', 'refresh_token'];
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const CIBA = 'urn:openid:params:grant-type:ciba';
export const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

// Each character of them has a meaning in a header, a form or a URL.
export const SECRETS = { basic: 'basic: 100% +1&=/?"', post: 'post: 100% +1&=/?"' };

const PAIRS = {
  ES256: () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  RS256: () => crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }),
  EdDSA: () => crypto.generateKeyPairSync('ed25519'),
};

// The private keys with which the server signs.
export const signingKeys = (algorithms) => algorithms.map((alg) => {
  const { privateKey } = PAIRS[alg]();
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig' };
});

const native = (name, redirectUris, more) => ({
  client_id: name,
  application_type: 'native',
  grant_types: [...CODE, DEVICE],
  response_types: ['code'],
  redirect_uris: redirectUris,
  id_token_signed_response_alg: 'ES256',
  ...more,
});

const backchannel = (name, more) => ({
  client_id: name,
  grant_types: [CIBA, 'refresh_token'],
  response_types: [],
  redirect_uris: [],
  backchannel_token_delivery_mode: 'poll',
  id_token_signed_response_alg: 'ES256',
  ...more,
});

export const fewClients = (name, redirectUris) => [
  native(name, redirectUris, { token_endpoint_auth_method: 'none' }),
  backchannel(`${name}-ciba`, { client_secret: 'ciba-secret' }),
];

// A client for each way of authenticating. Returns them and the private keys in PEM.
export function everyClient(name, redirectUris) {
  const grants = { grant_types: [...CODE, DEVICE, EXCHANGE] };
  const clients = [
    native(name, redirectUris, { ...grants, token_endpoint_auth_method: 'none' }),
    backchannel(`${name}-ciba`, { client_secret: 'ciba-secret' }),
    native(`${name}-basic`, redirectUris, {
      ...grants,
      token_endpoint_auth_method: 'client_secret_basic',
      client_secret: SECRETS.basic,
      id_token_signed_response_alg: 'RS256',
    }),
    native(`${name}-post`, redirectUris, {
      ...grants,
      token_endpoint_auth_method: 'client_secret_post',
      client_secret: SECRETS.post,
      id_token_signed_response_alg: 'EdDSA',
    }),
  ];
  const keys = {};
  for (const [alg, pair] of Object.entries(PAIRS)) {
    const { privateKey, publicKey } = pair();
    const kind = alg.toLowerCase();
    keys[kind] = privateKey.export({ format: 'pem', type: 'pkcs8' });
    const signs = {
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: alg,
      id_token_signed_response_alg: alg,
      jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), alg, use: 'sig' }] },
    };
    clients.push(native(`${name}-${kind}`, redirectUris, { ...grants, ...signs }));
    clients.push(backchannel(`${name}-ciba-${kind}`, signs));
  }
  return { clients, keys };
}
