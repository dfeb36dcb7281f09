// Package account tells who somebody is: accounts with passwords, and the sessions
// of those who have signed in, which all nodes of a fleet share.
package account
