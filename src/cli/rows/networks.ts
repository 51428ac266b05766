/** Commands on networks and published ports. */
import {
  CONTAINER,
  type CommandRow,
  FILTER,
  FORCE_PRUNE,
  FORMAT,
  IDS_ONLY,
  INSPECT_FORMAT,
  JSON_OPTION,
  NO_TRUNC,
  PRUNE_FILTER,
  refused,
} from './shape.ts'

const CONFLIST = 'put a conflist that has it into a directory of --cni-config'

export const NETWORKS: readonly CommandRow[] = [
  { name: 'port', summary: 'print the published ports of a container', client: true, args: [CONTAINER] },
  {
    name: 'network',
    summary: 'list the networks of this host',
    client: true,
    options: [FILTER, FORMAT, NO_TRUNC, IDS_ONLY, JSON_OPTION],
  },
  { name: 'network ls', alias: 'network', summary: 'list the networks of this host' },
  {
    name: 'network create',
    summary: 'make a network whose containers find each other by name',
    client: true,
    args: [{ name: 'NAME', summary: 'name of the network' }],
    options: [
      { flags: '-d, --driver <NAME>', summary: 'only bridge is offered' },
      { flags: '--subnet <CIDR>', summary: 'addresses (repeat for IPv6; default: a free range)', kind: 'list' },
      { flags: '--gateway <ADDRESS>', summary: 'gateway of the subnet it lies in (repeatable)', kind: 'list' },
      { flags: '--ip-range <CIDR>', summary: 'give addresses from this part of the subnet (repeatable)', kind: 'list' },
      { flags: '--ipv6', summary: 'IPv6 too' },
      { flags: '--internal', summary: 'no way out of the network' },
      { flags: '--label <NAME=VALUE>', summary: 'a label (repeatable)', kind: 'list' },
      { flags: '--attachable', summary: 'without effect: every network is' },
      { flags: '--scope <SCOPE>', summary: 'only local is offered' },
      { flags: '--ipam-driver <NAME>', summary: 'only default is offered' },
      refused('-o, --opt <NAME=VALUE>', CONFLIST),
      refused('--ipam-opt <NAME=VALUE>', CONFLIST),
      refused('--aux-address <NAME=ADDRESS>', 'keep addresses free with --ip-range'),
      refused('--config-from <NETWORK>', CONFLIST),
      refused('--config-only', CONFLIST),
      refused('--ingress', 'publish ports of containers with -p'),
    ],
    examples: ['darner network create --subnet 10.20.0.0/24 shop'],
  },
  {
    name: 'network rm',
    summary: 'remove networks that no running container is on',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name, id or unambiguous start of an id', many: true }],
    options: [{ flags: '-f, --force', summary: 'one that is not there is fine' }],
  },
  {
    name: 'network inspect',
    summary: 'print all that is known about networks, as JSON',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name, id or unambiguous start of an id', many: true }],
    options: [
      INSPECT_FORMAT,
      { flags: '-v, --verbose', summary: 'without effect: what docker adds is of swarm services' },
    ],
  },
  {
    name: 'network connect',
    summary: 'put a container on one more network',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name or id' }, CONTAINER],
    options: [
      { flags: '--alias <NAME>', summary: 'a further name on this network (repeatable)', kind: 'list' },
      { flags: '--ip <ADDRESS>', summary: 'this IPv4 address' },
      { flags: '--ip6 <ADDRESS>', summary: 'this IPv6 address' },
    ],
  },
  {
    name: 'network disconnect',
    summary: 'take a container off a network',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name or id' }, CONTAINER],
    options: [{ flags: '-f, --force', summary: 'without effect: there are no endpoints of containers that are gone' }],
  },
  {
    name: 'network prune',
    summary: 'remove the networks that no container uses',
    client: true,
    options: [FORCE_PRUNE, PRUNE_FILTER],
  },
]
