// Package nginx holds the configuration of the balancer, as programs start one
// with it.
package nginx

import "embed"

// Files has the configuration: nginx.conf and what it includes.
//
//go:embed *.conf
var Files embed.FS
