// Package web holds what every HTTP side of the fleet needs: who the client is
// behind trusted proxies, which origins may come, and refusals in one form.
package web
