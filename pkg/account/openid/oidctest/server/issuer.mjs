/**
 * An OpenID Connect issuer for tests, on a free port of 127.0.0.1. Whoever types a name is
 * let in, with any password, and is told to have the email NAME@example.com; the name
 * `nomail` has none.
 *
 *   node issuer.mjs '{"id": "...", "secret": "...", "auth": "client_secret_basic",
 *                     "algorithm": "RS256", "emailInToken": true}'
 *
 * Prints `LISTENING <issuer>` when it answers.
 */

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const { id, secret, auth, algorithm, emailInToken } = JSON.parse(process.argv[2]);

const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};
const key = {
  ...generateKeyPairSync(...kinds[algorithm]).privateKey.export({ format: 'jwk' }), alg: algorithm, use: 'sig', kid: algorithm,
};

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: id,
      ...(secret ? { client_secret: secret } : {}),
      token_endpoint_auth_method: auth,
      id_token_signed_response_alg: algorithm,
      grant_types: ['authorization_code'],
      response_types: ['code'],
      application_type: 'native', // so that the port does not matter (RFC 8252, section 7.3)
      redirect_uris: ['http://127.0.0.1/auth/callback', 'http://localhost/auth/callback'],
    }],
    jwks: { keys: [key] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
    conformIdTokenClaims: !emailInToken,
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => ({
        sub, name: `Name of ${sub}`, preferred_username: sub, ...(sub === 'nomail' ? {} : { email: `${sub}@example.com`, email_verified: false }),
      }),
    }),
    pkce: { required: () => true },
  });
  provider.on('server_error', (_, error) => console.log(`ERROR ${error.stack}`));
  provider.on('grant.error', (_, error) => console.log(`REFUSED ${error.message}: ${error.error_detail ?? error.error_description}`));
  provider.on('authorization.error', (_, error) => console.log(`REFUSED ${error.message}: ${error.error_detail ?? error.error_description}`));
  server.on('request', provider.callback());
  console.log(`LISTENING ${issuer}`);
});
