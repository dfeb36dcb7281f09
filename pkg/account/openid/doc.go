// Package openid signs people in whom an OpenID Connect issuer knows: the authorization
// code flow with PKCE. Whoever comes for the first time gets an account without a
// password.
package openid
