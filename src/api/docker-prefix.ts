/** Where the agent's own socket has the Docker Engine API: a command puts it before docker's paths. */
export const DOCKER_PREFIX = '/docker'
