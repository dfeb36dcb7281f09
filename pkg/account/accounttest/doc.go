// Package accounttest holds in memory what accounts stand on, for tests: users, values
// and counts, and who is told of what.
package accounttest
