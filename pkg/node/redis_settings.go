package node

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"parley/pkg/redisbus"
)

// maxReplicas bounds --redis-wait-replicas: nobody has as many.
const maxReplicas = 100

// redisSettings are those that tell where Redis is and what is asked of it.
func redisSettings() []Setting {
	return []Setting{
		{Name: "redis-url", Env: []string{"REDIS_URL"}, Argument: "URL",
			Help: "one Redis: redis://[[user]:password@]host:port[/db]; Sentinels: redis+sentinel://[[user]:password@]host:port,host:port/master-name[/db], for Sentinels with a password ?sentinel_password=; a Cluster: redis+cluster://[[user]:password@]host:port,host:port; rediss instead of redis for TLS. Empty: a Redis inside the process, for one node alone",
			set: func(c *Config, v string) error {
				if v != "" {
					if err := redisbus.CheckURL(v); err != nil {
						return err
					}
				}
				c.RedisURL = v
				return nil
			}},
		{Name: "redis-username", Argument: "NAME",
			Help: "for Redis, if the URL has no user and no password",
			set:  func(c *Config, v string) error { c.RedisCredentials.Username = v; return nil }},
		{Name: "redis-password", Argument: "PASSWORD", Secret: true,
			Help: "for Redis, if the URL has none; better by the variable, which other users of the machine do not see",
			set:  func(c *Config, v string) error { c.RedisCredentials.Password = v; return nil }},
		{Name: "redis-ca-file", Argument: "FILE",
			Help: "certificates in PEM form that are trusted besides the system's, when the URL is one for TLS",
			set:  func(c *Config, v string) error { c.RedisCredentials.CAFile = v; return nil }},
		{Name: "redis-wait-replicas", Default: "0", Argument: "NUMBER",
			Help: "a message is acknowledged only when so many replicas of Redis have it too; too few: its sender gets an error. The same on all nodes",
			set: func(c *Config, v string) error {
				n, err := strconv.Atoi(v)
				if err != nil || n < 0 || n > maxReplicas {
					return fmt.Errorf("want a number from 0 to %d", maxReplicas)
				}
				c.RedisWaitReplicas = n
				return nil
			}},
		{Name: "redis-wait-timeout", Default: "1s", Argument: "DURATION",
			Help: "how long replicas are waited for, at most 1.5s",
			set: func(c *Config, v string) error {
				d, err := time.ParseDuration(v)
				if err != nil || d < time.Millisecond || d > redisbus.MaxWaitTimeout {
					return fmt.Errorf("want a duration from 1ms to %s such as 500ms", redisbus.MaxWaitTimeout)
				}
				c.RedisWaitTimeout = d
				return nil
			}},
	}
}

// redisOptions are those of a bus on an external Redis.
func (c *Config) redisOptions() redisbus.Options {
	return redisbus.Options{URL: c.RedisURL, Credentials: c.RedisCredentials, WaitReplicas: c.RedisWaitReplicas, WaitTimeout: c.RedisWaitTimeout}
}

// checkRedis tells what is wrong with the settings of Redis together.
func (c *Config) checkRedis() error {
	switch {
	case c.RedisURL == "" && c.RedisWaitReplicas > 0:
		return errors.New("--redis-wait-replicas: the Redis inside the process has no replicas; set --redis-url")
	case c.RedisURL == "":
		return nil
	}
	if err := c.redisOptions().Check(); err != nil {
		return fmt.Errorf("--redis-url with --redis-ca-file: %w", err)
	}
	return nil
}
